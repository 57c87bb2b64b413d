"""A stub's scripted methods, as Python calls them, and the stubs that have to find their module again.

Note [Stubs that follow]
    A stub of a module with a name follows that name on its worker. It takes part when its owner is lost, or when the
    owner answers that it does not have the module any more: then its methods are taken out of this dict, so the next
    call from Python finds none, and `__missing__` has the module found again (finding/follow.py). That gives the stub a
    new link. Calls that are not concerned pay nothing: for them it is a look into a dict.

    There is one search for a stub at a time, and all who call it meanwhile wait for that. If it fails, a call that came
    after it began has one more search: the module may be back since. A search has what is left of the timeout of the
    call that begins it. If the worker did not answer in that time, those that have time left search on. So a call
    searches for its timeout at most. The call itself then has its timeout from when it is sent; one of an idempotent
    method has what is left: see again.py, Note [Sent again].

    A scripted model that holds the stub goes through the same link, so it reaches the module from then on, too. By
    itself it looks with the native part alone: finding/failed_calls.py, Note [Failed calls of the native part].

    Other threads may be calling through the old link at that moment. A stub is a scripted module, and its link is an
    attribute: to exchange it stores one pointer, and drops a reference to the old link. A reader loads the pointer
    first and counts its reference then. In between, nothing may free the old link. So a copy of the stub, which holds
    the old link, is kept for the grace period of tables: see jit/runtime/table.py, Note [Reading while writing]. Only
    one thread exchanges at a time: of two, one could let go of a link of the other's that nobody keeps.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar, Final

import torch

from ... import _torch
from ...errors import CallTimeoutError, NotInGroupError, StaleStubError, TorchRemoteError
from ...jit import CompiledInterface
from ...link.route import Route, connected_route, route_of
from ...link.timeouts import seconds_of, timeout_of
from ...locks import new_lock
from ..messages.answer import Answer
from ..messages.clock import at_latest, call_soon
from ..messages.failures_later import Failure, new_answer
from ..messages.lost_workers import when_lost
from ..messages.steps import Steps, run_here
from ..messages.waiting import unless_of_a_handler

METHODS: Final = "_torchremote_methods"
"""The attribute in which a stub keeps its scripted methods, by name."""

DEVICES: Final = "_torchremote_devices"
"""The attribute in which a stub keeps the accelerators in the device map to its owner."""

_SHORTEST_SEARCH: Final = 0.01  # seconds


class NamedStubMethods(dict[str, Any]):
    """The scripted methods of a stub of a module with a name. It is empty while the stub has to find its module."""

    # See stubs/stub.py, Note [Set from elsewhere].
    find: ClassVar[Callable[[NamedStubMethods, float, Callable[[Exception | None], None]], None]]
    """Begins to look for the module, for some seconds; 0 for no limit. Gives the stub a new link, and calls back with
    None, or with why it could not."""
    with_timeout: ClassVar[Callable[[Any, float], Any]]
    """Makes a stub of the same module with another timeout."""
    decide_failed: ClassVar[Callable[[], None]]
    """Has failed calls of the native part be decided from now on."""

    def __init__(
        self, stub: torch.jit.ScriptModule, compiled: CompiledInterface, names: Iterable[str], route: Route
    ) -> None:
        super().__init__({name: _torch.scripted_method(stub, name) for name in names})
        self.compiled = compiled
        self.worker = route.worker
        self.followed = route.followed
        self.number = route.number  # tells a withdrawn name from a worker that came back: see finding/follow.py
        self.when_lost: Callable[[], None] | None = None  # is called when it is empty
        self._module = _torch.object_of(stub)  # not the stub: that holds this, and has to go with its last reference
        self._all = dict(self)
        self._lock = threading.RLock()  # a signal's handler may call the stub, too
        self._searches = 0  # how many were begun
        self._search: Answer[Any] | None = None  # the last one
        with _registry_lock:
            _registry.add(self)
        NamedStubMethods.decide_failed()

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    @property
    def where(self) -> str:
        """Names the module in errors."""
        return f"{self.compiled.interface.name} on {self.worker}"

    def __missing__(self, name: str) -> Any:
        self.find_if_lost()
        return self._all[name]

    def find_if_lost(self) -> None:
        """Finds the module again, if that is needed. Raises why it could not."""
        if not self:
            timeout = connected_route(self.scripted()).timeout
            run_here(self.finding(time.monotonic() + seconds_of(timeout, f"{self.where}: ")))

    def finding(self, until: float, exactly: bool = False) -> Steps[None]:
        """Waits until the module is found again, if that is needed. Raises why it could not.

        Args:
            until: when to stop searching, as `time.monotonic` has it; may be infinite.
            exactly: does not wait any longer for a search that somebody else began, either.
        """
        before = self._searches
        while (running := self._search_for_all(until)) is not None:
            number, search = running
            try:
                yield at_latest(until, search, self.found_too_late()) if exactly else search
                return
            except unless_of_a_handler(TorchRemoteError) as error:
                is_over = time.monotonic() >= until - _SHORTEST_SEARCH
                if is_over or (number > before and not isinstance(error, CallTimeoutError)):
                    raise

    def found_too_late(self) -> CallTimeoutError:
        """Makes the error of a call that was not sent because its time has passed."""
        return CallTimeoutError(
            f"{self.where}: the module was not found within the timeout of the call; nothing was sent"
        )

    def _search_for_all(self, until: float) -> tuple[int, Answer[Any]] | None:
        """Begins to search, if it is needed and no search runs.

        Args:
            until: when the search has to end.

        Returns:
            The number of the search, and a Future that is complete when it ends. None if the module is found.
        """
        # Whoever ends a search does not need the lock. So a signal's handler may come in between, and wait for one.
        with self._lock:
            if self:
                return None
            if self._search is None or self._search.done():
                search = new_answer()
                # Not in this thread: Ctrl-C could end it there, and all others would wait for ever.
                left = max(until - time.monotonic(), _SHORTEST_SEARCH)
                call_soon(partial(self._begin, search, timeout_of(left)), partial(_refuse, search))
                self._searches, self._search = self._searches + 1, search
            return self._searches, self._search

    def _begin(self, search: Answer[Any], within: float) -> None:
        def ended(failure: Exception | None) -> None:
            if failure is None:
                self.update(self._all)
            search.set_result(None if failure is None else Failure.of(failure))

        NamedStubMethods.find(self, within, ended)

    def lose(self) -> None:
        """Has the next call find the module."""
        self.clear()
        if self.when_lost is not None:
            self.when_lost()

    def scripted(self) -> torch.jit.ScriptModule:
        """Returns the scripted stub."""
        stub = _torch.as_python_module(self._module)
        assert isinstance(stub, torch.jit.ScriptModule)
        return stub


def _refuse(search: Answer[Any], error: Exception) -> None:
    search.set_result(Failure.of(error))


def find_if_lost(stub: Any) -> None:
    """Has a stub find its module, if it has to. Raises why it could not."""
    methods = stub.__dict__[METHODS]
    if isinstance(methods, NamedStubMethods):
        methods.find_if_lost()


def note_failure(stub: Any, handle: int, failure: Exception) -> None:
    """Has the next call of a stub find its module, if a message to `handle` failed because it is not there any more."""
    methods, route = stub.__dict__[METHODS], route_of(stub)
    if not isinstance(methods, NamedStubMethods) or not isinstance(failure, (StaleStubError, NotInGroupError)):
        return
    if route is not None and route.handle == handle:  # it has not followed meanwhile
        methods.lose()


_registry_lock = new_lock()
_registry: weakref.WeakSet[NamedStubMethods] = weakref.WeakSet()


def _after_fork() -> None:
    # Searches are the parent's, and so are the threads that held locks.
    for methods in list(_registry):
        methods._search, methods._lock = None, threading.RLock()


os.register_at_fork(after_in_child=_after_fork)


def _lose_stubs(worker: str) -> None:
    """Has every stub of a module with a name on a lost worker find it before the next call."""
    with _registry_lock:
        concerned = [methods for methods in _registry if methods.worker == worker]
    for methods in concerned:
        methods.lose()


when_lost(_lose_stubs)


def methods_of(
    stub: torch.jit.ScriptModule, compiled: CompiledInterface, names: Iterable[str], route: Route
) -> dict[str, Any]:
    """Returns the methods of a stub that has this route. A module without a name cannot be found again."""
    if route.name is None:
        return {method: _torch.scripted_method(stub, method) for method in names}
    return NamedStubMethods(stub, compiled, names, route)
