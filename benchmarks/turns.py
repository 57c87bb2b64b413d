"""Pairs of processes, a caller and an owner, that take turns, in any checkout and with any options.

A pair that is not in turn is stopped: else its threads that look for messages would take the cores of the others.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

HERE = Path(__file__).parent.parent
"""This checkout."""


class Pair:
    """A caller and an owner; as a context manager, it runs until the context ends."""

    def __init__(self, checkout: Path = HERE, options: Mapping[str, Any] | None = None, pinned: bool = False) -> None:
        """Starts both, and stops them once they are connected.

        Args:
            checkout: the folder that has the folder torchremote.
            options: what `torchremote.rpc_options` is called with.
            pinned: whether each stays on a core of its own, if there are two. Where the kernel moves threads between
                cores, the same call takes twice as long in one pair as in the next.

        Raises:
            FileNotFoundError: there is no torchremote in that folder.
        """
        if not (checkout / "torchremote" / "__init__.py").exists():
            raise FileNotFoundError(f"{checkout}: not a checkout of torchremote")
        self._folder = tempfile.TemporaryDirectory(prefix="torchremote-bench-")
        given = [f"{self._folder.name}/store", json.dumps(dict(options or {}))]
        self._owner = start(checkout, "owner", *given)
        self._caller = start(checkout, "caller", *given)
        cores = sorted(os.sched_getaffinity(0))
        if pinned and len(cores) > 1:
            for process, core in zip((self._caller, self._owner), cores, strict=False):
                os.sched_setaffinity(process.pid, {core})  # before it starts threads, which stay there, too
        try:
            self._read()
        except RuntimeError:
            self._owner.kill()  # it waits for its caller
            self.__exit__(None, None, None)
            raise
        self._signal(signal.SIGSTOP)

    def call(self, work: str, shape: list[int], calls: int, warm_up: int = 0, in_flight: int = 1) -> list[float]:
        """Returns the seconds of each of so many calls, as pair.call does. `work` is a key of pair.WORK."""
        assert self._caller.stdin
        self._signal(signal.SIGCONT)
        asked = {"work": work, "shape": shape, "calls": calls, "warm_up": warm_up, "in_flight": in_flight}
        print(json.dumps(asked), file=self._caller.stdin, flush=True)
        seconds: list[float] = self._read()
        self._signal(signal.SIGSTOP)
        return seconds

    def _read(self) -> Any:
        assert self._caller.stdout
        line = self._caller.stdout.readline()
        if not line:
            raise RuntimeError("the caller ended; what it says is above")
        return json.loads(line)

    def _signal(self, number: signal.Signals) -> None:
        for process in (self._owner, self._caller):
            os.kill(process.pid, number)

    def __enter__(self) -> Pair:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._caller.stdin
        self._signal(signal.SIGCONT)
        self._caller.stdin.close()  # the end of its input is the end of it
        for process in (self._caller, self._owner):
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._folder.cleanup()


def start(checkout: Path, *arguments: str) -> subprocess.Popen[str]:
    """Starts pair.py of this checkout with the torchremote of another one."""
    # -P: the folder of the script, benchmarks, does not come before the checkout.
    command = [sys.executable, "-P", "-W", "ignore", str(Path(__file__).with_name("pair.py")), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None, text=True
    )


def ask_alone(checkout: Path, role: str) -> dict[str, float]:
    """Returns what a process of its own measures. `role` is a key of pair.ALONE."""
    process = start(checkout, role)
    shown, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{role} in {checkout} ended with {process.returncode}; what it says is above")
    found: dict[str, float] = json.loads(shown)
    return found
