"""Asks the owner of a stub's module to do something with it, and follows the module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...errors import CallTimeoutError, NotInGroupError, StaleStubError
from ...link.route import Route
from ...link.timeouts import check_timeout
from ..calls.following import find_if_lost, note_failure
from ..messages.asking import ask
from ..messages.own_end import unless_let_go
from ..messages.waiting import unless_of_a_handler
from .stub import route_and_interface


class AsksOwner:
    """Has the owner of a stub's module run functions of its own."""

    def __init__(self, stub: Any, timeout: float | None = None) -> None:
        route, self._compiled = route_and_interface(stub, "at_owner")
        self._stub = stub
        self._given = timeout
        self._worker = route.worker
        self._timeout = route.timeout if timeout is None else check_timeout(timeout)

    @property
    def _where(self) -> str:
        return f"{self._compiled.interface.name} on {self._worker}"

    def _ask(self, function: Callable[..., Any], *args: Any) -> Any:
        """Runs a function of owner/module_state.py or owner/checkpoints.py on the owner, and returns its result."""
        return self._ask_following(function, *args)[1]

    def _ask_following(self, function: Callable[..., Any], *args: Any) -> tuple[Route, Any]:
        """Does as `_ask`, and returns the route to the module that was asked, too.

        If the owner refuses because it does not have the module any more, nothing was done. Then the stub finds the
        module of its name, and that is asked: see calls/following.py, Note [Stubs that follow]. No message of here has
        tensors with gradients, so distributed autograd records none, and another one does no harm.
        """
        for is_last in (False, True):
            find_if_lost(self._stub)
            route, _ = route_and_interface(self._stub, "at_owner")
            try:
                return route, self._ask_once(route, function, *args)
            except unless_of_a_handler(StaleStubError, NotInGroupError) as error:
                note_failure(self._stub, route.handle, error)
                if is_last or route.name is None or isinstance(error, NotInGroupError):
                    raise
        raise AssertionError  # the last one returns or raises

    def _ask_once(self, route: Route, function: Callable[..., Any], *args: Any) -> Any:
        """Does as `_ask`, on the module that `route` leads to."""
        try:
            return ask(route.worker, self._where, function, route.handle, *args, timeout=self._timeout)
        except unless_of_a_handler(CallTimeoutError) as error:
            said, _, traced = str(error).partition("\n\n")
            more = "give each message more time with at_owner(stub, timeout=...), in seconds, or 0 for no limit"
            raise CallTimeoutError(f"{said}; {more}\n\n{traced}") from None
        except unless_of_a_handler(StaleStubError) as error:
            raise unless_let_go(error, self._where, route) from None
