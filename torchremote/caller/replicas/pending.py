"""Replicas whose workers were asked for their modules, and have not answered yet."""

from __future__ import annotations

import asyncio
import math
import queue
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from ...errors import AbsentWorkerError, CallTimeoutError, PlaceError, ServedNameError, TorchRemoteError, WireError
from ...jit import CompiledInterface
from ...link.places import check_worker, find_worker
from ...link.timeouts import LONGEST_TIMEOUT
from ..creating.pending import Pending
from ..creating.pending_stub import PendingStub, when_answered
from ..messages.waiting import unless_of_a_handler
from .as_module import make_replicas
from .team import ASKING, Team

NOT_YET: Final = (ServedNameError, AbsentWorkerError, WireError)
"""Errors of a worker that may still come, or come back, or may still serve the name."""

_LOOK: Final = 0.02  # seconds between two looks whether workers have answered, in an event loop


class PendingReplicas(Pending[Any]):
    """Replicas that are being connected, as `connect_async` returns them for a list of workers."""

    def __init__(
        self, compiled: CompiledInterface, name: str, timeout: float | None, where: Sequence[str], within: float | None
    ) -> None:
        """Asks all workers. `within`: seconds that they have to answer; None for RPC's default.

        Raises:
            NotInitializedError: RPC is not running in this process.
            PlaceError: `where` is empty, names a worker twice, or one that can never come.
        """
        if not where:
            raise PlaceError("where=[]: no worker; name those that serve the module")
        for one in where:
            check_worker(one)
        found = [_found(one) for one in where]
        for one, worker in zip(where, found, strict=True):
            if found.count(worker) > 1:
                raise PlaceError(f"where={list(where)!r}: {one!r} is there twice; name each worker once")
        self._made: Any = None
        self._team = Team(compiled, name, timeout, where)
        self._asked = self._team.start(within)
        self._pending = [one for one in self._asked if isinstance(one, PendingStub)]
        self._until = math.inf  # when those that have not answered are left out
        self._lock = threading.RLock()  # a signal's handler may wait, too

    def done(self) -> bool:
        return self._left() <= 0

    def wait(self) -> Any:
        # It is in C. A handler of a signal that raises in an Event may leave its lock taken, for which answers wait.
        answered: queue.SimpleQueue[None] = queue.SimpleQueue()
        for pending in self._pending:
            when_answered(pending, partial(answered.put, None))
        while self._made is None and (left := self._left()) > 0:  # `_left` waits for no answer
            with suppress(queue.Empty):
                answered.get(timeout=min(left, LONGEST_TIMEOUT))
        with self._lock:
            if self._made is None:
                made = self._make()
                self._made = self._made or made  # a handler may have made them meanwhile
            return self._made

    def until_done(self) -> Generator[Any, None, None]:
        while self._left() > 0:
            yield from asyncio.sleep(_LOOK).__await__()

    def _left(self) -> float:
        """Returns for how many seconds to wait for answers. Once a worker serves the module, it is `ASKING` at most."""
        if all(one.done() for one in self._pending):
            return 0.0
        if self._until == math.inf and any(map(_is_found, self._pending)):
            self._until = time.monotonic() + ASKING
        return self._until - time.monotonic()

    def _make(self) -> Any:
        """Takes the answers. Those that cannot be reached now are left out, if there are others."""
        absent: dict[str, TorchRemoteError] = {}
        for where, one in zip(self._team.where, self._asked, strict=True):
            try:
                if not isinstance(one, PendingStub):
                    raise one
                if not one.done():
                    raise CallTimeoutError(f"its worker did not answer within {ASKING:g} s after another one had")
                self._team.put(where, one.wait())
            except unless_of_a_handler(PlaceError, ServedNameError, WireError) as error:
                absent[where] = error
        if len(absent) == len(self._asked):
            raise _first(list(absent.values()))
        for where, why in absent.items():
            self._team.note_lost(where, why)
        self._team.shared.training = all(stub.training for stub in self._team.stubs().values())
        return make_replicas(self._team)


def _is_found(one: PendingStub[Any]) -> bool:
    """Says whether a worker has answered, and serves a module under the name, even one that does not fit."""
    if not one.done():
        return False
    try:
        one.route()
    except unless_of_a_handler(TorchRemoteError) as error:
        return not isinstance(error, NOT_YET)
    return True


def _found(where: str) -> str:
    """Returns the name of a worker. If it has not joined yet, returns what names it."""
    try:
        return find_worker(where).name
    except AbsentWorkerError:
        return where


def _first(errors: list[TorchRemoteError]) -> TorchRemoteError:
    """Returns the error to raise if no replica was found, with the others as notes."""
    # Errors that waiting may cure come first.
    first = min(errors, key=lambda error: [not isinstance(error, kind) for kind in NOT_YET])
    for other in errors:
        if other is not first:
            first.add_note(f"and: {other}")
    return first
