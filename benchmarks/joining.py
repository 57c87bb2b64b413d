"""How long does a worker take to join a group, and how does that grow with the group?"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable

import torch.distributed.rpc as rpc

import torchremote

from .findings import Findings, Target
from .group import quiet
from .timing import Rounds

TORCH = "torch's init_rpc without a world size"
SHOWN = (2, 10, 20, 30)
"""Which workers are shown, by how many there are with them."""
AT_ONCE = f"{SHOWN[-1] - 1} at once"
GROUP = None  # it starts processes of its own


def measure(quick: bool) -> Findings:
    """Has workers join groups, one after the other and at once. All are forks of this process, which joins none."""
    found: Rounds = {f"{way}{number}": [] for way in ("", f"{TORCH}: ") for number in SHOWN} | {AT_ONCE: []}
    for _ in range(2 if quick else 9):
        with tempfile.TemporaryDirectory(prefix="torchremote-bench-") as folder:
            for way, took in (("", joined_in_turn(_join)), (f"{TORCH}: ", joined_in_turn(_torchs, f"{folder}/store"))):
                for number in SHOWN:
                    found[f"{way}{number}"].append([took[number - 1]])
        found[AT_ONCE].append([joined_at_once(SHOWN[-1] - 1)])
    last = str(SHOWN[-1])
    targets = (Target(last, f"{TORCH}: {last}", 0.5), Target(last, str(SHOWN[0]), 5.0))
    return Findings("Joining a group, as its nth worker", "ms", 1e3, found, targets)


Join = Callable[[int, str], str]
"""Joins a group, given the worker's number and where the group is. Returns where it is."""


def _join(number: int, where: str) -> str:
    torchremote.join(f"w{number}", where or None, shared_memory=False, threads=2)
    return torchremote.group_address()


def _torchs(number: int, where: str) -> str:
    options = torchremote.rpc_options(init_method=f"file://{where}", shared_memory=False, threads=2)
    rpc.init_rpc(f"w{number}", rank=number, rpc_backend_options=options)
    return where


def joined_in_turn(join: Join, where: str = "") -> list[float]:
    """Returns the seconds that each worker took to join, one after the other."""
    group = _Workers(join)
    took = []
    for number in range(SHOWN[-1]):
        group.start(number, where)
        where, seconds = group.wait()
        took.append(seconds)
    group.end()
    return took


def joined_at_once(count: int) -> float:
    """Returns the seconds until so many workers have joined, which start together."""
    group = _Workers(_join)
    group.start(count, "")
    where, _ = group.wait()
    start = time.perf_counter()
    for number in range(count):
        group.start(number, where)
    for _ in range(count):
        group.wait()
    took = time.perf_counter() - start
    group.end()
    return took


class _Workers:
    """Forks of this process that join a group, and stay until the end."""

    def __init__(self, join: Join) -> None:
        self._join = join
        self._told, self._tells = os.pipe()  # what they tell of their joins
        self._goes_on, self._ends = os.pipe()  # is closed at the end
        self._pids: list[int] = []

    def start(self, number: int, where: str) -> None:
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            self._pids.append(pid)
            return
        try:
            os.close(self._ends)
            quiet()
            start = time.perf_counter()
            group = self._join(number, where)
            os.write(self._tells, json.dumps([group, time.perf_counter() - start]).encode() + b"\n")
            os.read(self._goes_on, 1)
        except BaseException:
            traceback.print_exc()
            os.write(self._tells, b"null\n")
        finally:
            os._exit(0)

    def wait(self) -> tuple[str, float]:
        """Waits for one of them to have joined. Returns where the group is, and the seconds that it took."""
        line = b""
        while not line.endswith(b"\n"):
            line += os.read(self._told, 1)
        told = json.loads(line)
        if told is None:
            self.end()
            raise RuntimeError("a worker did not join; what it says is above")
        where, seconds = told
        return where, seconds

    def end(self) -> None:
        os.close(self._ends)
        for pid in self._pids:
            os.waitpid(pid, 0)
        for end in (self._told, self._tells, self._goes_on):
            os.close(end)
