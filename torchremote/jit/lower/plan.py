"""How values cross: as which type, and with what done to them on the way.

A plan is the walk from a value to what has to be done something with, and says nothing about how code for it looks.
`Keep` means that there is nothing to do, so that no code is emitted. Three things are done to values:

* Tensors move between devices; which ones, the placement says.
* What torch cannot carry crosses as something that it can: see Note [Wire types].
* Tensors that are sent are looked at: see tensors.py, Note [Tensors that hurt].

Note [Wire types]
    torch's unpickler fails on enums, forgets which NamedTuple a tuple was, and TorchScript cannot convert every
    Python value to a Union. So an enum crosses as the position of its member, a NamedTuple as a tuple, and a Union as a
    tuple with a place for every member, all but one of them None. A dtype is an integer everywhere in TorchScript.
    Values are packed before they are sent and unpacked where they arrive, in TorchScript; Python callers pack and
    unpack in Python (values.py), which is how an empty list finds its place in a Union.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, Union

from ..read.model import Method
from ..read.types import (
    DTYPE,
    INT,
    AnyType,
    DictType,
    EnumType,
    ListType,
    NamedTupleType,
    OptionalType,
    ScalarType,
    TensorType,
    TupleType,
    Type,
    UnionType,
    walk,
)


class Placement(enum.Enum):
    """Where a hosted module is, as seen from a stub; it selects the endpoint variant when the stub is made."""

    HOST = "host"  # the module is on the CPU: nothing moves
    STAGED = "staged"  # on an accelerator, no device map: tensors move in to it, and back out to the CPU
    MAPPED = "mapped"  # on an accelerator, with a device map: tensors move in to it, and stay


@dataclass(frozen=True)
class Keep:
    """Nothing to do."""


@dataclass(frozen=True)
class Move:
    """A tensor, to be moved or looked at."""


@dataclass(frozen=True)
class MoveAny:
    """A value that may be or hold tensors: only the value knows."""


@dataclass(frozen=True)
class Translate:
    """An enum member, or the integer that it crosses as."""


@dataclass(frozen=True)
class WalkOptional:
    item: Plan


@dataclass(frozen=True)
class WalkList:
    item: Plan


@dataclass(frozen=True)
class WalkDict:
    key: Plan
    value: Plan


@dataclass(frozen=True)
class WalkTuple:
    """A tuple or NamedTuple."""

    items: tuple[Plan, ...]


@dataclass(frozen=True)
class WalkUnion:
    """A Union, or the tuple that it crosses as."""

    items: tuple[Plan, ...]


Plan = Union[Keep, Move, MoveAny, Translate, WalkOptional, WalkList, WalkDict, WalkTuple, WalkUnion]

KEEP: Final = Keep()
MOVE: Final = Move()
MOVE_ANY: Final = MoveAny()
TRANSLATE: Final = Translate()


@dataclass(frozen=True)
class MethodPlan:
    arguments: tuple[Plan, ...]
    result: Plan


def plan_endpoint(method: Method, placement: Placement) -> MethodPlan:
    """What the owner does: it unpacks, and moves in; it moves out and looks at what is sent, and packs."""
    moves_in = placement is not Placement.HOST
    return MethodPlan(
        tuple(plan_type(argument.type, moves_in, translates=True) for argument in method.arguments),
        plan_type(method.returns, tensors=True, translates=True),
    )


def plan_wire(method: Method) -> MethodPlan:
    """What a caller's wire does: it looks at what is sent, which is packed."""
    return MethodPlan(
        tuple(plan_type(wire_type(argument.type), tensors=True, translates=False) for argument in method.arguments),
        KEEP,
    )


def plan_stub(method: Method) -> MethodPlan:
    """What a caller's stub does: it packs and unpacks."""
    return MethodPlan(
        tuple(plan_type(argument.type, tensors=False, translates=True) for argument in method.arguments),
        plan_type(method.returns, tensors=False, translates=True),
    )


def plan_type(type: Type, tensors: bool, translates: bool) -> Plan:
    """The walk to what concerns us in a value of `type`: its tensors, and what crosses as something else."""

    def plan(type: Type) -> Plan:
        match type:
            case TensorType():
                return MOVE if tensors else KEEP
            case AnyType():
                return MOVE_ANY if tensors else KEEP
            case EnumType():
                return TRANSLATE if translates else KEEP
            case OptionalType(item):
                inner = plan(item)
                return KEEP if inner == KEEP else WalkOptional(inner)
            case ListType(item):
                inner = plan(item)
                return KEEP if inner == KEEP else WalkList(inner)
            case DictType(key, value):
                inners = plan(key), plan(value)
                return KEEP if inners == (KEEP, KEEP) else WalkDict(*inners)
            case UnionType(items) if translates:
                return WalkUnion(tuple(map(plan, items)))
            case TupleType(items):
                walks = tuple(map(plan, items))
                return KEEP if all(inner == KEEP for inner in walks) else WalkTuple(walks)
            case NamedTupleType() if translates:
                return WalkTuple(tuple(map(plan, type.items)))
            case UnionType() | NamedTupleType():
                raise ValueError(f"{type} does not cross as itself")
        return KEEP

    return plan(type)


def wire_type(type: Type) -> Type:
    """The type as which a value of `type` crosses: see Note [Wire types]."""
    match type:
        case EnumType() | ScalarType("dtype"):
            return INT
        case NamedTupleType():
            return TupleType(tuple(map(wire_type, type.items)))
        case UnionType(items):
            return TupleType(tuple(OptionalType(wire_type(item)) for item in items))
        case OptionalType(item):
            return OptionalType(wire_type(item))
        case ListType(item):
            return ListType(wire_type(item))
        case DictType(key, value):
            return DictType(wire_type(key), wire_type(value))
        case TupleType(items):
            return TupleType(tuple(map(wire_type, items)))
    return type


def is_called_packed(method: Method) -> bool:
    """Whether Python packs a method's arguments and unpacks its result, and so calls past the TorchScript that does it.

    It always does for many calls: they may leave out arguments that have defaults, which TorchScript's may not.
    """
    return method.each is not None or any(map(crosses_otherwise, method.types))


def crosses_otherwise(type: Type) -> bool:
    """Whether Python has to translate or look at a value of `type` that crosses."""
    otherwise = (EnumType, NamedTupleType, UnionType, AnyType)
    return any(isinstance(part, otherwise) or part == DTYPE for part in walk(type))
