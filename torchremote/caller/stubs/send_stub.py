"""Sends stubs as arguments and results of RPC. A stub crosses as its interface and its route, and works on arrival."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ... import _torch
from ...jit import Interface
from ...link.places import Words, find_place
from ...link.protocol import SPOKEN, check_protocol
from ...link.route import Route
from ...link.stubs import compiled_from
from ...link.timeouts import check_running
from ...owner.lives import leases
from .stub import Bases, Stub, StubClass, give_own, make_stub, own_of, route_and_interface, stub_class


@dataclass(frozen=True)
class SentRoute:
    """A route on its way to another worker. A ticket takes the place of its lease."""

    route: Route
    ticket: str | None

    @staticmethod
    def of(route: Route) -> SentRoute:
        """Makes the sent form of a route, and asks the owner to hold the module meanwhile."""
        ticket = None if route.lease is None else leases.ask_to_hold(route.worker, route.handle, route.lease)
        return SentRoute(replace(route, lease=None), ticket)

    def from_here(self) -> Route:
        """Makes this worker's route to the same module, with its own lease and device map."""
        worker, handle = self.route.worker, self.route.handle
        try:
            lease = None if self.ticket is None else leases.take(worker, handle, self.ticket)
            devices = _torch.mapped_devices(find_place(worker, Words(f"a stub of a module on {worker}")).worker)
        except RuntimeError:
            check_running()  # another thread may have ended RPC
            raise
        return replace(self.route, devices=tuple(devices), lease=lease)


def reduce_for_rpc(stub: Stub) -> tuple[Any, ...]:
    """Takes a stub apart for RPC's pickler."""
    route, compiled = route_and_interface(stub, "RPC")
    return rebuild, (
        *SPOKEN,
        sent_interface(compiled.interface),
        stub._torchremote_bases,
        own_of(stub),
        SentRoute.of(route),
    )


def rebuild(protocol: int, oldest: int, sent: tuple[str, str], bases: Bases, own: dict[str, Any], to: SentRoute) -> Any:
    """Makes the stub again on the worker that receives it.

    Raises:
        ProtocolError: the sender runs a release of torchremote that this worker does not understand.
    """
    check_protocol(protocol, oldest, "the worker that sent a stub")
    return give_own(make_stub(compiled_from(*sent), to.from_here(), bases), own)


def sent_interface(interface: Interface) -> tuple[str, str]:
    """Returns an interface as it is sent: its qualified name and its declaration."""
    return interface.qualified_name, interface.declaration


def _reduce_class(cls: type[Stub]) -> str | tuple[Any, ...]:
    """Takes a stub's class apart for RPC's pickler: torch asks an RRef's owner for the class of its value."""
    if cls is Stub:
        return "Stub"
    return _rebuild_class, (sent_interface(cls._torchremote_compiled.interface), cls._torchremote_bases)


def _rebuild_class(sent: tuple[str, str], bases: Bases) -> type[Stub]:
    return stub_class(compiled_from(*sent), bases)


StubClass.reduce_for_rpc = staticmethod(reduce_for_rpc)
_torch.send_as(StubClass, _reduce_class)
