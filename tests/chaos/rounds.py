"""A round, seen from outside: starts the workers, kills and stops them, and sees that all goes on.

Whatever happens, no worker is left when a round ends. A worker ends with the parent, also if that is killed.
"""

import collections
import itertools
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..forks import Fork
from . import board as boards
from . import worker as workers
from .report import read_reports
from .watch import HUNG, MARGIN

STARTING, LEAVING = 120.0, 60.0
"""Seconds within which all workers are there, and gone."""

GROWTH = {"allocated": 1.0, "resident": 32.0}
"""MiB by which an owner may grow in each of the last parts of a calm round. In one of them, TorchScript may compile a
method once more: it does so for the first calls of each thread, shape and dtype. A leak grows in all. What is resident
also has what malloc keeps for later."""
LAST_PARTS = 3


@dataclass(frozen=True)
class Settings:
    """What makes a round what it is. All follows from the seed."""

    seed: int
    kind: str  # "kills", "stops" or "calm"
    seconds: float
    kills: int
    longest_stop: float  # seconds; timeouts are shorter and longer
    rpc_timeout: float
    shared_memory: bool
    large_tensors: bool
    deaf: str | None  # a worker to which those cannot connect that have not called it before the work begins
    folder: Path

    @property
    def board(self):
        return self.folder / "board"

    @property
    def parts(self):
        """Says how often the workers rest."""
        return 1 if self.kills else 8 if self.kind == "calm" else 4

    @property
    def compares_memory(self):
        """Says whether the last parts are compared. In a shorter round, they have too few calls."""
        return self.kind == "calm" and self.seconds >= 60


def settings_of(seed, folder, seconds, kind):
    """Draws the settings of the round with this seed, but for `seconds` and `kind` that are not None."""
    draw = random.Random(seed)
    drawn, length = draw.choices(["kills", "stops", "calm"], [6, 2, 2])[0], draw.uniform(20, 40)
    kind = kind or drawn
    calm = kind == "calm"
    seconds = seconds or (120.0 if calm else length)  # memory is compared in calm rounds, which takes time
    return Settings(
        seed=seed,
        kind=kind,
        seconds=seconds,
        kills=draw.choice([1, 1, 2, 3]) if kind == "kills" else 0,
        longest_stop=0.0 if calm else 8.0,
        rpc_timeout=30.0 if calm else 5.0,
        shared_memory=draw.random() < 0.3,
        large_tensors=draw.random() < 0.3,
        deaf=draw.choice([None, None, None, *boards.WORKERS]) if kind == "kills" else None,
        folder=folder,
    )


@dataclass
class Outcome:
    """What was seen in a round."""

    settings: Settings
    reports: dict = field(default_factory=dict)
    faults: list = field(default_factory=list)
    events: collections.Counter = field(default_factory=collections.Counter)
    growth: dict = field(default_factory=lambda: {what: [] for what in GROWTH})  # MiB, of each owner
    output: str = ""  # of all workers, if there were faults
    processes: list = field(default_factory=list)  # their ids


def run_round(seed, seconds=None, kind=None):
    """Runs the round with this seed. Returns its Outcome."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        settings = settings_of(seed, Path(folder), seconds, kind)
        this = _Round(settings)
        try:
            this.run()
        finally:
            this.end()
        return this.outcome


class _Round:
    def __init__(self, settings):
        self.settings, self.outcome = settings, Outcome(settings)
        self.random = random.Random(f"{settings.seed} events")
        self.board = boards.Board.create(settings.board)
        self.processes = {}
        self.stopped = {}  # for each worker that is stopped: when it goes on
        self.signs = {}  # for each worker: its clock when it was last seen to move, and when that was
        self.lost = False  # whether a worker ended that should not

    def run(self):
        for name in boards.WORKERS:
            self.processes[name] = Fork(workers.main, name, self.settings, output=self._output(name))
            self.outcome.processes.append(self.processes[name].pid)
        if not self._reach(boards.READY, STARTING):
            return
        for part in range(self.settings.parts):
            first = boards.PART * part
            self.board.phase = boards.WORKING + first
            self._disturb(self.settings.seconds / self.settings.parts)
            for worker in list(self.stopped):
                self._go_on(worker)
            self.board.phase = boards.RESTING + first
            # Until every operation has come back, within the longest timeout and its margin; then until all is let go.
            if not self._reach(boards.RESTING + first, 30 + 2 * MARGIN):
                return
            self.board.phase = boards.LETTING_GO + first
            if not self._reach(boards.LETTING_GO + first, workers.PATIENCE + MARGIN):
                return
        self.board.phase = boards.LEAVING
        end = time.monotonic() + LEAVING
        while any(process.poll() is None for process in self.processes.values()):
            if time.monotonic() > end or not self._all_is_well():
                self._fault_of_the_late("leave")
                return
            time.sleep(0.05)
        self._all_is_well()

    def end(self):
        """Ends all that is left, and reads what the workers wrote."""
        for process in self.processes.values():
            process.kill()
            process.wait()
        self.outcome.reports, faults = read_reports(self.settings.folder, boards.WORKERS)
        self.outcome.faults += faults
        if self.settings.compares_memory:
            self._compare_memory()
        if self.outcome.faults:
            for name in boards.WORKERS:
                path = self._output(name)
                lines = path.read_text(errors="replace").splitlines() if path.exists() else []
                told = "\n".join(line for line in lines if "tensorpipe_agent.cpp" not in line)  # lost connections
                self.outcome.output += f"--- {name}, {self.processes[name].poll()}\n{told[-8000:]}\n"
                if self._stacks(name).exists():
                    self.outcome.output += self._stacks(name).read_text(errors="replace")

    # -- what happens to workers

    def _disturb(self, seconds):
        """Kills and stops workers at random times."""
        began = time.monotonic()
        kills = sorted(self.random.uniform(0.1, 0.9) * seconds for _ in range(self.settings.kills))
        stop = self._next_stop()
        while (passed := time.monotonic() - began) < seconds and self._all_is_well():
            if kills and passed >= kills[0]:
                kills.pop(0)
                self._kill()
            if passed >= stop:
                stop = passed + self._next_stop()
                self._stop()
            for worker, until in list(self.stopped.items()):
                if time.monotonic() >= until:
                    self._go_on(worker)
            time.sleep(0.02)

    def _next_stop(self):
        return float("inf") if self.settings.kind == "calm" else self.random.uniform(0.5, 5)

    def _kill(self):
        """Kills a worker, but the last owner or caller."""
        living = [name for name in boards.WORKERS if not self.board.is_killed(name)]
        name = self.random.choice(living)
        left = set(living) - {name}
        if left & set(boards.OWNERS) and left & set(boards.CALLERS):
            self.board.mark_killed(name)
            self.processes[name].kill()
            self.stopped.pop(name, None)
            self.outcome.events[f"killed {name.rstrip('01')}"] += 1

    def _stop(self):
        name = self.random.choice(boards.WORKERS)
        if not self.board.is_killed(name) and name not in self.stopped:
            os.kill(self.processes[name].pid, signal.SIGSTOP)
            longest = self.settings.longest_stop
            seconds = self.random.choice([self.random.uniform(0, 0.3), self.random.uniform(0, longest)])
            self.stopped[name] = time.monotonic() + seconds
            self.outcome.events[f"stopped {name.rstrip('01')}"] += 1

    def _go_on(self, worker):
        del self.stopped[worker]
        os.kill(self.processes[worker].pid, signal.SIGCONT)
        self.signs.pop(worker, None)

    # -- what must hold

    def _reach(self, phase, seconds):
        """Waits until all workers have come to a phase. Says whether they did."""
        end = time.monotonic() + seconds
        while not all(self.board.reached(name) >= phase for name in self._living()):
            if not self._all_is_well():
                return False
            if time.monotonic() > end:
                self._fault_of_the_late(f"come to phase {phase}")
                return False
            time.sleep(0.05)
        return self._all_is_well()

    def _living(self):
        return [name for name in self.processes if not self.board.is_killed(name)]

    def _all_is_well(self):
        """Sees whether a worker ended that was not killed, or does not run."""
        for name in self._living():
            ended = self.processes[name].poll()
            if ended is not None and not self.lost and not (ended == 0 and self.board.phase == boards.LEAVING):
                self.lost = True
                if ended != HUNG:  # that one told
                    how = signal.Signals(-ended).name if ended < 0 else f"exit status {ended}"
                    self._fault("died", f"{name}: {how}")
            if ended is None and name not in self.stopped and self.board.reached(name) >= boards.READY:
                self._see_it_move(name)
        return not self.lost

    def _see_it_move(self, name):
        lived, now = self.board.lived(name), time.monotonic()
        last, when = self.signs.get(name, (None, now))
        if lived != last:
            self.signs[name] = lived, now
        elif now - when > 2 * MARGIN:
            self._ask_for_stacks(name)
            self._fault("hang", f"{name} does not run: perhaps a thread keeps the GIL")
            self.lost = True

    def _fault_of_the_late(self, what):
        late = [name for name in self._living() if self.processes[name].poll() is None]
        for name in late:
            self._ask_for_stacks(name)
        if not self.lost:
            self._fault("hang", f"{late} did not {what}")

    def _ask_for_stacks(self, name):
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(self.processes[name].pid, signal.SIGUSR1)
            time.sleep(1)
        if shutil.which("gdb"):  # who holds a lock of C++
            command = ["gdb", "-p", str(self.processes[name].pid), "-batch", "-ex", "thread apply all backtrace 40"]
            with suppress(subprocess.TimeoutExpired), self._stacks(name).open("w") as file:
                subprocess.run(command, stdout=file, stderr=subprocess.DEVNULL, timeout=120, check=False)

    def _fault(self, kind, text):
        self.outcome.faults.append({"kind": kind, "worker": "the round", "text": text})

    def _compare_memory(self):
        for owner in boards.OWNERS:
            memory = self.outcome.reports.get(owner, {}).get("memory", [])
            if len(memory) == self.settings.parts:
                for what, most in GROWTH.items():
                    megabytes = [part[what] / 2**20 for part in memory]
                    growth = min(after - before for before, after in itertools.pairwise(megabytes[-LAST_PARTS - 1 :]))
                    self.outcome.growth[what].append(growth)
                    if growth > most:
                        self._fault("memory", f"{owner} grows, MiB {what}: {[round(size, 1) for size in megabytes]}")

    def _output(self, name):
        return self.settings.folder / f"{name}.txt"

    def _stacks(self, name):
        return self.settings.folder / f"{name}.stacks"
