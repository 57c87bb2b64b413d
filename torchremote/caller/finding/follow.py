"""Finds the modules of stubs again whose owner was lost: see calls/following.py, Note [Stubs that follow]."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial

from ...errors import NotInGroupError, PlaceError, ServedNameError
from ...link.failures import GONE
from ...link.places import Words, find_worker
from ...link.route import Route, connected_route
from ..calls.following import NamedStubMethods
from ..creating.pending_stub import PendingStub, ask_for_served, when_answered
from ..messages.clock import call_soon
from ..stubs.shared_mode import follow_mode, keep_mode
from ..stubs.stub import exchange_route, with_timeout


def find_again(methods: NamedStubMethods, within: float, ended: Callable[[Exception | None], None]) -> None:
    """Asks for the module that a stub's worker serves under its name by now, and has the stub lead to it.

    Does not wait for the answer. If the worker lives, and does not serve the name any more, the stub stays as it is.

    Args:
        within: seconds that the worker has to answer; 0 for no limit.
        ended: is called with None, or with an error. NotInGroupError: the worker is not back, or does not serve the
            name yet. MismatchError: what it serves does not implement the interface.
    """
    until = time.monotonic() + (within or math.inf)
    try:
        pending, route = _ask(methods, within)
    except Exception as error:
        ended(error)
        return

    def answered() -> None:
        try:
            found = _found(methods, route, pending)
        except Exception as error:
            ended(error)
            return
        if found is None:
            ended(None)  # the next call goes where it went before, and the owner refuses it
        else:
            keep_mode(
                route.handle, found, _where(methods, route), until, lambda kept: call_soon(partial(lead, kept), ended)
            )

    def lead(kept: Route | Exception) -> None:
        failure = kept if isinstance(kept, Exception) else None
        try:
            if isinstance(kept, Route):
                _lead(methods, route.handle, kept)
        except Exception as error:
            failure = error
        ended(failure)

    when_answered(pending, partial(call_soon, answered, ended))


def _ask(methods: NamedStubMethods, within: float) -> tuple[PendingStub, Route]:
    """Asks the worker of a stub for its module. Returns the answer to come, and the route that the stub has."""
    route = connected_route(methods.scripted())
    assert route.name is not None
    try:
        worker = find_worker(route.worker, Words(_where(methods, route)))
    except PlaceError:
        raise NotInGroupError(f"{_where(methods, route)}: {GONE}") from None
    asked = ask_for_served(worker, methods.compiled, route.name, route.timeout, within, methods.followed, is_call=True)
    return asked, route


def _found(methods: NamedStubMethods, route: Route, pending: PendingStub) -> Route | None:
    """Takes a worker's answer. Returns None if the worker is the one that the stub knows, and has withdrawn the name.

    Args:
        route: the one that the stub has.
    """
    try:
        return pending.route()
    except ServedNameError:
        if methods.number in (None, pending.worker_id):
            return None
        raise NotInGroupError(
            f"{_where(methods, route)}: the worker is back, and does not serve {route.name!r}; nothing was sent; "
            "serve it there again"
        ) from None


def _lead(methods: NamedStubMethods, before: int, found: Route) -> None:
    """Has a stub, whose handle was `before`, lead to the module that was found."""
    exchange_route(methods.scripted(), methods.compiled, found)
    methods.number = found.number
    follow_mode(before, found)


def _where(methods: NamedStubMethods, route: Route) -> str:
    return f"{methods.compiled.interface.name} on {route.worker}"


NamedStubMethods.find = staticmethod(find_again)
NamedStubMethods.with_timeout = staticmethod(with_timeout)
