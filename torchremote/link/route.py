"""Sets, clears and reads a scripted stub's route to its module, and the address that is saved with the stub."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import torch

from .. import _torch, native
from .._torch import PyRRef
from .._version import PROTOCOL
from ..errors import StubError
from ..jit import CompiledInterface
from ..jit.lower import ADDRESS, ROUTE
from ..jit.runtime.turns import STREAMS
from .protocol import check_archive

_DEFAULT_TIMEOUT: Final = -1.0  # torch's number for the timeout in init_rpc's options


@dataclass(frozen=True)
class Route:
    """The way from a stub to its module."""

    worker: str
    name: str | None  # under which the module is served; None: the module lives as long as `lease`
    device: str  # the module's device when the route was made
    handle: int
    devices: tuple[torch.device, ...]  # the devices in this process's device map to the worker
    lease: PyRRef[Any] | None  # None: the module lives without stubs
    timeout: float | None  # seconds that a call may take; None: RPC's own default
    in_turn: bool = False  # whether the module runs its calls one after another
    training: bool = True  # the module's mode when the route was made
    followed: bool = True  # whether the native part has calls follow a module with a name; links do not say it
    number: int | None = None  # of the worker, which has another one when it comes back; links do not say it


class Address(NamedTuple):
    """The part of a route that a stub is saved with. It is enough to find the module again."""

    protocol: int
    qualified_name: str
    declaration: str
    worker: str
    name: str
    timeout: float

    @property
    def seconds(self) -> float | None:
        """Returns the timeout as a `Route` has it."""
        return None if self.timeout < 0 else self.timeout


def set_route(scripted: torch.jit.ScriptModule, compiled: CompiledInterface, route: Route) -> None:
    """Makes a scripted stub call the module that `route` leads to."""
    parts: tuple[Any, ...] = (route.handle, route.device, list(route.devices), route.lease, new_stream(route))
    if native.available():
        parts = (*parts, route.followed)
    compiled.contract.defined["attach"](scripted, _address(compiled, route), *parts)
    if route.lease is not None:
        _torch.keep_module_in_forks(scripted)


def new_stream(route: Route) -> int:
    """Draws the number of a link's stream, which has to differ from those of other links. 0: it needs none."""
    return 1 + secrets.randbelow(STREAMS - 1) if route.in_turn else 0


def clear_route(scripted: torch.jit.ScriptModule, compiled: CompiledInterface, route: Route) -> None:
    """Disconnects a scripted stub. It keeps an address, so it can be saved."""
    compiled.contract.defined["detach"](scripted, _address(compiled, route)._replace(name=route.name or "on its way"))


def _address(compiled: CompiledInterface, route: Route) -> Address:
    """Makes the address of a route."""
    interface = compiled.interface
    timeout = _DEFAULT_TIMEOUT if route.timeout is None else route.timeout
    return Address(PROTOCOL, interface.qualified_name, interface.declaration, route.worker, route.name or "", timeout)


def address_of(scripted: torch.jit.ScriptModule) -> Address:
    """Reads the address of a scripted stub.

    Raises:
        ProtocolError: the stub was saved by a release of torchremote that this one does not understand.
    """
    parts = _torch.scripted_method(scripted, ADDRESS)()
    if len(parts) == 5:
        parts = 1, *parts  # 0.1.0 saved no number
    check_archive(*parts[:2])
    return Address(*parts)


def route_of(scripted: torch.jit.ScriptModule) -> Route | None:
    """Reads the route that `set_route` gave a scripted stub. None if the stub is not connected.

    Raises:
        StubError: torch.jit.trace, which records calls of the traced module's own parts alone, records this one.
    """
    try:
        parts = _torch.scripted_method(scripted, ROUTE)() if _torch.has_method(scripted, ROUTE) else None
    except RuntimeError:
        if not torch.jit.is_tracing():
            raise
        raise StubError(
            f"{type(scripted).__name__}: torch.jit.trace records no call of a stub that is not itself a part of the "
            "traced module, and none of replicas; script the model, with a stub as an attribute, and do not trace it"
        ) from None
    if parts is None:
        return None
    address = address_of(scripted)
    handle, device, devices, lease, stream = parts
    return Route(
        worker=address.worker,
        name=address.name or None,
        device=device,
        handle=handle,
        devices=tuple(devices),
        lease=lease,
        timeout=address.seconds,
        in_turn=stream != 0,
        training=scripted.training,
    )


def connected_route(stub: torch.jit.ScriptModule) -> Route:
    """Reads the route of a stub that is connected, as each is that has its Python methods."""
    route = route_of(stub)
    assert route is not None
    return route
