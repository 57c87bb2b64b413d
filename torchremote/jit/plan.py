"""Which tensors move where: for a type, the walk to its tensors; for a placement, whether the walk is taken.

A plan says where the tensors of a value are and nothing about how code for it looks. `Keep` means that there is no
tensor to be found, so that no code is emitted.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, Union

from .model import DictType, ListType, Method, OptionalType, TensorType, TupleType, Type


class Placement(enum.Enum):
    """Where a hosted module is, as seen from a stub; it selects the endpoint variant when the stub is made."""

    HOST = "host"  # the module is on the CPU: nothing moves
    STAGED = "staged"  # on an accelerator, no device map: tensors move in to it, and back out to the CPU
    MAPPED = "mapped"  # on an accelerator, with a device map: tensors move in to it, and stay


@dataclass(frozen=True)
class Keep:
    """No tensor inside."""


@dataclass(frozen=True)
class Move:
    """A tensor."""


@dataclass(frozen=True)
class WalkOptional:
    item: Plan


@dataclass(frozen=True)
class WalkList:
    item: Plan


@dataclass(frozen=True)
class WalkDict:
    value: Plan


@dataclass(frozen=True)
class WalkTuple:
    items: tuple[Plan, ...]


Plan = Union[Keep, Move, WalkOptional, WalkList, WalkDict, WalkTuple]

KEEP: Final = Keep()
MOVE: Final = Move()


@dataclass(frozen=True)
class MethodPlan:
    arguments: tuple[Plan, ...]
    result: Plan


def plan_method(method: Method, placement: Placement) -> MethodPlan:
    """What moves when `method` is called on a module in `placement`."""
    inward = placement is not Placement.HOST
    outward = placement is Placement.STAGED
    return MethodPlan(
        tuple(plan_type(argument.type) if inward else KEEP for argument in method.arguments),
        plan_type(method.returns) if outward else KEEP,
    )


def plan_type(type: Type) -> Plan:
    """The walk to every tensor in a value of `type`."""
    match type:
        case TensorType():
            return MOVE
        case OptionalType(item):
            inner = plan_type(item)
            return KEEP if inner == KEEP else WalkOptional(inner)
        case ListType(item):
            inner = plan_type(item)
            return KEEP if inner == KEEP else WalkList(inner)
        case DictType(_, value):
            inner = plan_type(value)
            return KEEP if inner == KEEP else WalkDict(inner)
        case TupleType(items):
            inners = tuple(map(plan_type, items))
            return KEEP if all(inner == KEEP for inner in inners) else WalkTuple(inners)
    return KEEP
