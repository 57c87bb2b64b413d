"""Lowers copies of lists and dicts in a packed value, for those that others may change at the same time."""

from __future__ import annotations

from ..read.types import DictType, ListType, OptionalType, TupleType, Type
from . import ir
from .convert import Converter, Direction
from .names import Names
from .plan import KEEP, MOVE, Plan, WalkDict, WalkList, WalkOptional, WalkTuple, plan_arrival, wire_type
from .source_names import SourceNames


def has_plain_containers(kind: Type) -> bool:
    """Says whether a packed value may have lists or dicts without tensors. Those with tensors are rebuilt anyway."""
    return _plan(wire_type(kind)) != KEEP


def copy_containers(
    value: ir.Expression, kind: Type, names: Names, source_names: SourceNames
) -> tuple[list[ir.Statement], ir.Expression]:
    """Copies the lists and dicts without tensors in a packed value. Returns the statements, and the new value."""
    body: list[ir.Statement] = []
    copying = Converter(names, source_names, Direction.UNPACK, lambda container: ir.called(container, "copy"))
    packed = wire_type(kind)
    return body, copying.convert(value, packed, _plan(packed), "copy", body)


def _plan(kind: Type) -> Plan:
    """Plans the walk to the lists and dicts of a wire type. `MOVE` stands for one that is copied as a whole."""
    match kind:
        case OptionalType(item):
            inner = _plan(item)
            return KEEP if inner == KEEP else WalkOptional(inner)
        case ListType(item):
            inner = _plan(item)
            return _whole(kind) if inner == KEEP else WalkList(inner)
        case DictType(key, value):
            inner = _plan(value)
            return _whole(kind) if inner == KEEP else WalkDict(_plan(key), inner)
        case TupleType(items):
            inners = tuple(map(_plan, items))
            return KEEP if all(inner == KEEP for inner in inners) else WalkTuple(inners)
    return KEEP


def _whole(kind: Type) -> Plan:
    return MOVE if plan_arrival(kind) == KEEP else KEEP
