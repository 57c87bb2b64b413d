"""One of several replicas, and what a call takes of it: see team.py, Note [Replicas]."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any


class Load:
    """How busy the worker of a replica is, as far as one object for the replicas and its copies know."""

    def __init__(self) -> None:
        self.in_flight = 0  # calls
        self.late = False  # a call was not answered in time, and nothing since; it is called only if there is no other


class Shared:
    """Knows of replicas what the copies of their object in this process have in common."""

    def __init__(self, where: Sequence[str], training: bool = True) -> None:
        self.training = training  # the mode, as they show it
        self.wanted: bool | None = None  # the mode that was set here; those that come back get it
        self.loads = {one: Load() for one in where}
        self.lock = threading.RLock()  # a signal's handler may call, too


class Replica:
    """One of several modules. `Team` changes it, under its lock."""

    def __init__(self, where: str, load: Load) -> None:
        self.where = where
        self.load = load
        self.stub: Any = None  # the one that it is called through
        self.methods: Mapping[str, Any] = {}  # those of the stub; empty: the replica is left out
        self.sought = False  # a thread asks for it
        self.why = "was not asked yet"  # why it is left out

    def __str__(self) -> str:
        if not self.methods:
            return f"{self.where} (left out: {self.why})"
        return f"{self.where} ({self.load.in_flight} in flight{', late' if self.load.late else ''})"


class Taken:
    """A replica that was chosen for a call, or for a part of a batch. It is given back once.

    That happens at the latest when nobody refers to this object any more. Ctrl-C may end a call anywhere, also between
    two instructions of ours.
    """

    replica: Replica
    stub: Any  # the one to call it through
    _calls = 0  # that were counted and not given back

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock

    def count(self, replica: Replica, calls: int) -> None:
        """Counts calls as in flight. `Team` calls it, under its lock."""
        # No handler of a signal runs between assignments.
        self.replica, self.stub = replica, replica.stub
        replica.load.in_flight += calls
        self._calls = calls

    def give_back(self) -> None:
        """Ends what `Team.take` began."""
        if self._calls:
            with self._lock:
                self.replica.load.in_flight -= self._calls
                self._calls = 0

    __del__ = give_back
