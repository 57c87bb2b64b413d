"""Plans how values cross: as which type, and what happens to them on the way.

A plan is a walk through a value to the parts that need work. It does not say how the code for it looks. `Keep` means
that there is nothing to do, so no code is emitted. Three things happen to values:

* Tensors move between devices, if the module is on an accelerator.
* A value that torch cannot send crosses as another type: see Note [Wire types].
* Tensors that are sent are checked: see runtime/tensors.py, Note [Tensors that hurt]. On arrival, sparse ones are told
  whether they are coalesced: see runtime/message.py.

Note [Wire types]
    torch's unpickler fails on enums, and forgets which NamedTuple a tuple was. TorchScript cannot convert every Python
    value to a Union. So an enum crosses as the position of its member, a NamedTuple as a tuple, and a Union as a tuple
    with a place for every member, all but one of them None. A dtype is an integer everywhere in TorchScript.

    Values are packed before they are sent, and unpacked on arrival, in TorchScript. Callers in Python pack and unpack
    in Python (link/values.py). There an empty list finds its place in a Union, which TorchScript could not tell.
"""

from __future__ import annotations

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


@dataclass(frozen=True)
class Keep:
    """A value that needs nothing."""


@dataclass(frozen=True)
class Move:
    """A tensor that is moved or checked."""


@dataclass(frozen=True)
class MoveAny:
    """A value of type Any. It may be a tensor, or hold tensors."""


@dataclass(frozen=True)
class TranslateEnum:
    """An enum member, or the integer as which it crosses."""


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
    """A Union, or the tuple as which it crosses."""

    items: tuple[Plan, ...]


Plan = Union[Keep, Move, MoveAny, TranslateEnum, WalkOptional, WalkList, WalkDict, WalkTuple, WalkUnion]

KEEP: Final = Keep()
MOVE: Final = Move()
MOVE_ANY: Final = MoveAny()
TRANSLATE_ENUM: Final = TranslateEnum()


def plan_tensors(method: Method) -> tuple[Plan, ...]:
    """Plans the walks to the tensors in packed arguments. The caller checks these, and the owner moves them."""
    return tuple(plan_arrival(argument.type) for argument in method.arguments)


def plan_arrival(kind: Type) -> Plan:
    """Plans the walk to the tensors in a packed value that has arrived, which restores them: see runtime/message.py."""
    return plan_type(wire_type(kind), tensors=True, translates=False)


def plan_result(method: Method) -> Plan:
    """Plans the work on a result. An owner checks and moves its tensors, and packs it. A stub does the reverse."""
    return plan_type(method.returns, tensors=True, translates=True)


def plan_packing(kind: Type) -> Plan:
    """Plans the walk to the parts of a value that cross as another type, which a stub packs and an owner unpacks."""
    return plan_type(kind, tensors=False, translates=True)


def plan_type(kind: Type, tensors: bool, translates: bool) -> Plan:
    """Plans the walk through a value of type `kind`.

    Args:
        tensors: whether the walk goes to tensors.
        translates: whether it goes to parts that cross as another type.
    """

    def plan(kind: Type) -> Plan:
        match kind:
            case TensorType():
                return MOVE if tensors else KEEP
            case AnyType():
                return MOVE_ANY if tensors else KEEP
            case EnumType():
                return TRANSLATE_ENUM if translates else KEEP
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
                return WalkTuple(tuple(map(plan, kind.items)))
            case UnionType() | NamedTupleType():
                raise ValueError(f"{kind} does not cross as itself")
        return KEEP

    return plan(kind)


def wire_type(kind: Type) -> Type:
    """Returns the wire type of `kind`: see Note [Wire types]."""
    match kind:
        case EnumType() | ScalarType("dtype"):
            return INT
        case NamedTupleType():
            return TupleType(tuple(map(wire_type, kind.items)))
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
    return kind


def is_called_packed(method: Method) -> bool:
    """Says whether Python packs a method's arguments and unpacks its result, in place of the stub's TorchScript.

    For many calls it always does. There, calls from Python may leave out arguments with defaults.
    """
    return method.each is not None or any(map(crosses_otherwise, method.types))


def crosses_otherwise(kind: Type) -> bool:
    """Says whether Python has to translate a value of type `kind`, or to look into it."""
    otherwise = (EnumType, NamedTupleType, UnionType, AnyType)
    return any(isinstance(part, otherwise) or part == DTYPE for part in walk(kind))
