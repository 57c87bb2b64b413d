"""Counts what a worker did, and tells of faults.

A worker writes its counts once a second, so that those of a killed worker are not lost. Faults are written at once.
"""

import collections
import json
import os
import statistics
import threading
import time


class Report:
    """One worker's counts, in a file of the round's folder."""

    def __init__(self, folder, worker):
        self._path, self._faults, self._worker = folder / f"{worker}.json", folder / "faults.txt", worker
        self._lock = threading.Lock()
        self.operations, self.errors = collections.Counter(), collections.Counter()
        self.memory = []  # after each part of the round: what is allocated, and what is resident

    def count(self, operation):
        with self._lock:
            self.operations[operation] += 1

    def error(self, error):
        with self._lock:
            self.errors[type(error).__name__] += 1

    def fault(self, kind, text):
        """Tells of what must not be. `kind`: a word by which it is counted."""
        line = json.dumps({"kind": kind, "worker": self._worker, "text": text})
        file = os.open(self._faults, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(file, f"{line}\n".encode())
        os.close(file)

    def write(self):
        with self._lock:
            whole = {"operations": self.operations, "errors": self.errors, "memory": self.memory}
            new = self._path.with_suffix(".new")
            new.write_text(json.dumps(whole))
            new.replace(self._path)

    def keep_writing(self):
        def write():
            while True:
                time.sleep(1)
                self.write()

        threading.Thread(target=write, daemon=True).start()


def read_reports(folder, workers):
    """The counts of all workers that wrote some, by name; and the faults."""
    paths = {worker: folder / f"{worker}.json" for worker in workers}
    reports = {worker: json.loads(path.read_text()) for worker, path in paths.items() if path.exists()}
    faults = folder / "faults.txt"
    return reports, [json.loads(line) for line in faults.read_text().splitlines()] if faults.exists() else []


class Total:
    """The figures of all rounds."""

    def __init__(self):
        self.rounds, self.began = collections.Counter(), time.monotonic()
        self.events, self.operations, self.errors = (collections.Counter() for _ in range(3))
        self.faults, self.growth = collections.Counter(), collections.defaultdict(list)

    def add(self, outcome):
        self.rounds[outcome.settings.kind] += 1
        self.events += outcome.events
        for report in outcome.reports.values():
            self.operations.update(report["operations"])
            self.errors.update(report["errors"])
        self.faults.update(fault["kind"] for fault in outcome.faults)
        for what, growth in outcome.growth.items():
            self.growth[what] += growth

    def __str__(self):
        growth = [
            f"{what} {statistics.median(grown):+.1f} in the middle, {max(grown):+.1f} at most"
            for what, grown in self.growth.items()
            if grown
        ]
        faults = {kind: self.faults[kind] for kind in ("wrong", "hang", "leftover", "died", "memory", "error")}
        return "\n".join(
            [
                f"{(time.monotonic() - self.began) / 60:.1f} minutes, {sum(self.rounds.values())} rounds: "
                + _listed(self.rounds),
                f"events: {_listed(self.events)}",
                f"operations: {sum(self.operations.values())}: {_listed(self.operations)}",
                f"errors that may be: {_listed(self.errors)}",
                f"MiB by which owners grew in each of the last parts of calm rounds: {'; '.join(growth) or 'none'}",
                f"faults: {_listed({**faults, **self.faults})}",
            ]
        )


def _listed(counts):
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"
