"""Replicas whose workers were asked for their modules, and have not answered yet."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final

from ..errors import AbsentWorkerError, PlaceError, ServedNameError, TorchRemoteError, WireError
from ..jit import CompiledInterface
from ..link.places import check_worker, find_worker
from .pending import Pending
from .replicas import Team
from .replicas_as_module import make_replicas

NOT_YET: Final = (ServedNameError, AbsentWorkerError, WireError)
"""Errors of a worker that may still come, or come back, or may still serve the name."""


class PendingReplicas(Pending[Any]):
    """Replicas that are being connected, as `connect_async` returns them for a list of workers."""

    def __init__(self, compiled: CompiledInterface, name: str, timeout: float | None, where: Sequence[str]) -> None:
        """Asks all workers.

        Raises:
            NotInitializedError: RPC is not running in this process.
            PlaceError: `where` is empty, names a worker twice, or has what names none.
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
        self._asked = self._team.start()

    def done(self) -> bool:
        return all(one.done() for one in self._asked if isinstance(one, Pending))

    def wait(self) -> Any:
        if self._made is None:
            self._made = self._make()
        return self._made

    def until_done(self) -> Generator[Any, None, None]:
        for one in self._asked:
            if isinstance(one, Pending):
                yield from one.until_done()

    def _make(self) -> Any:
        """Waits for all answers. Those that cannot be reached now are left out, if there are others."""
        absent: dict[str, TorchRemoteError] = {}
        for where, one in zip(self._team.where, self._asked, strict=True):
            try:
                if not isinstance(one, Pending):
                    raise one
                self._team.put(where, one.wait())
            except (PlaceError, ServedNameError, WireError) as error:
                absent[where] = error
        if len(absent) == len(self._asked):
            raise _first(list(absent.values()))
        for where, why in absent.items():
            self._team.note_lost(where, why)
        return make_replicas(self._team)


def _found(where: str) -> str:
    """Returns the name of a worker. If it has not joined yet, returns what names it."""
    try:
        return find_worker(where).worker.name
    except PlaceError:
        return where


def _first(errors: list[TorchRemoteError]) -> TorchRemoteError:
    """Returns the error to raise if no replica was found, with the others as notes."""
    # Errors that waiting may cure come first.
    first = min(errors, key=lambda error: [not isinstance(error, kind) for kind in NOT_YET])
    for other in errors:
        if other is not first:
            first.add_note(f"and: {other}")
    return first
