"""Finds the modules of stubs again whose owner was lost: see methods.py, Note [Stubs that follow]."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..errors import NotInGroupError, PlaceError, ServedNameError
from ..link.failures import GONE
from ..link.places import find_worker
from ..link.route import Route, route_of
from .methods import NamedStubMethods
from .modes import follow_mode
from .pending_stub import PendingStub, find_served, when_answered
from .steps import call_soon
from .stub import exchange_route, with_timeout


def find_again(methods: NamedStubMethods, within: float, ended: Callable[[Exception | None], None]) -> None:
    """Asks for the module that a stub's worker serves under its name by now, and has the stub lead to it.

    Does not wait for the answer. If the worker lives, and does not serve the name any more, the stub stays as it is.

    Args:
        within: seconds that the worker has to answer; 0 for no limit.
        ended: is called with None, or with an error. NotInGroupError: the worker is not back, or does not serve the
            name yet. MismatchError: what it serves does not implement the interface.
    """
    try:
        pending, route = _ask(methods, within)
    except Exception as error:
        ended(error)
        return

    def answered() -> None:
        try:
            _take_up(methods, route, pending)
        except Exception as error:
            ended(error)
        else:
            ended(None)

    when_answered(pending, partial(call_soon, answered))


def _ask(methods: NamedStubMethods, within: float) -> tuple[PendingStub, Route]:
    """Asks the worker of a stub for its module. Returns the answer to come, and the route that the stub has."""
    route = route_of(methods.scripted())
    assert route is not None
    assert route.name is not None
    try:
        place = find_worker(route.worker)
    except PlaceError:
        raise NotInGroupError(f"{_where(methods, route)}: {GONE}") from None
    return find_served(place, methods.compiled, route.name, route.timeout, within, methods.followed), route


def _take_up(methods: NamedStubMethods, route: Route, pending: PendingStub) -> None:
    """Has a stub lead to the module that was found. `route`: the one that it has."""
    try:
        found = pending.route()
    except ServedNameError:
        if methods.withdrawn:
            return  # the next call goes where it went before, and the owner refuses it
        raise NotInGroupError(
            f"{_where(methods, route)}: the worker is back, and does not serve {route.name!r}; nothing was sent"
        ) from None
    methods.before.append(route.handle)
    exchange_route(methods.scripted(), methods.compiled, found)
    follow_mode(route.worker, route.handle, found.handle, found.training)


def _where(methods: NamedStubMethods, route: Route) -> str:
    return f"{methods.compiled.interface.name} on {route.worker}"


NamedStubMethods.find = staticmethod(find_again)
NamedStubMethods.with_timeout = staticmethod(with_timeout)
