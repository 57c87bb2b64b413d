"""Finds the modules of stubs again whose owner was lost: see methods.py, Note [Stubs that follow]."""

from __future__ import annotations

from ..errors import NotInGroupError, PlaceError, ServedNameError
from ..link.failures import GONE
from ..link.places import find_worker
from ..link.route import route_of
from .methods import NamedStubMethods
from .modes import follow_mode
from .pending import find_served
from .stub import exchange_route, with_timeout


def find_again(methods: NamedStubMethods) -> None:
    """Connects a stub to the module that its worker serves under its name by now.

    Does nothing if the worker lives, and does not serve the name any more.

    Raises:
        NotInGroupError: the worker is not back, or does not serve the name yet.
        MismatchError: what it serves does not implement the interface.
    """
    scripted, compiled = methods.scripted(), methods.compiled
    route = route_of(scripted)
    assert route is not None
    assert route.name is not None
    where = f"{compiled.interface.name} on {route.worker}"
    try:
        place = find_worker(route.worker)
        within, followed = route.timeout, methods.followed
        found = find_served(place, compiled, route.name, route.timeout, within, followed).route()
    except PlaceError:
        raise NotInGroupError(f"{where}: {GONE}") from None
    except ServedNameError:
        if methods.withdrawn:
            return  # the next call goes where it went before, and the owner refuses it
        raise NotInGroupError(
            f"{where}: the worker is back, and does not serve {route.name!r}; nothing was sent"
        ) from None
    methods.before.append(route.handle)
    exchange_route(scripted, compiled, found)
    follow_mode(route.worker, route.handle, found.handle, found.training)


NamedStubMethods.find = staticmethod(find_again)
NamedStubMethods.with_timeout = staticmethod(with_timeout)
