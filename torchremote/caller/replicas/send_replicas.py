"""Sends replicas as arguments and results of RPC: as their interface, their workers, and stubs of those that live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ... import _torch
from ...link.protocol import SPOKEN, check_protocol
from ...link.stubs import compiled_from
from ..stubs.send_stub import sent_interface
from .as_module import Replicas, ReplicasClass, make_replicas, own_of, replicas_class
from .replica import Shared
from .team import Team, team_of


def reduce_for_rpc(replicas: Replicas) -> tuple[Any, ...]:
    """Takes replicas apart for RPC's pickler."""
    team = team_of(replicas)
    which = sent_interface(team.compiled.interface), team.name, team.timeout, team.where
    return rebuild, (*SPOKEN, *which, team.stubs(), team.shared.training, own_of(replicas))


def rebuild(
    protocol: int,
    oldest: int,
    sent: tuple[str, str],
    name: str,
    timeout: float | None,
    where: Sequence[str],
    stubs: dict[str, Any],
    training: bool,
    own: dict[str, Any],
) -> Any:
    """Makes the replicas again on the worker that receives them.

    Raises:
        ProtocolError: the sender runs a release of torchremote that this worker does not understand.
    """
    check_protocol(protocol, oldest, "the worker that sent replicas")
    team = Team(compiled_from(*sent), name, timeout, where, Shared(where, training))
    team.put_all(stubs)
    made = make_replicas(team)
    made.__dict__.update(own)
    return made


def _reduce_class(cls: type[Replicas]) -> str | tuple[Any, ...]:
    """Takes a class of replicas apart for RPC's pickler: torch asks an RRef's owner for the class of its value."""
    if cls is Replicas:
        return "Replicas"
    return _rebuild_class, sent_interface(cls._torchremote_compiled.interface)


def _rebuild_class(qualified_name: str, declaration: str) -> type[Replicas]:
    return replicas_class(compiled_from(qualified_name, declaration))


ReplicasClass.reduce_for_rpc = staticmethod(reduce_for_rpc)
_torch.send_as(ReplicasClass, _reduce_class)
