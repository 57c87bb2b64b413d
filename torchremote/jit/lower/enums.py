"""Lowers the functions that translate enums to integers and back. torch cannot send enums."""

from __future__ import annotations

from ..read.model import Interface
from ..read.types import EnumType
from . import ir
from .source_names import SourceNames
from .units import unit


def lower_enums(interface: Interface, source_names: SourceNames) -> ir.Unit:
    """Lowers the unit of functions that pack and unpack the members of enums."""
    definitions: list[ir.Definition] = []
    for enum in source_names.pack:
        definitions += [_lower_pack(enum, source_names), _lower_unpack(enum, source_names)]
    return unit(interface, "enums", "Functions that translate enums.", *definitions)


def _lower_pack(enum: EnumType, source_names: SourceNames) -> ir.Function:
    """Lowers the function that finds the position of a member by its name."""
    names = ir.ListOf(tuple(ir.Literal(name) for name, _ in enum.members))
    position = ir.Call(ir.Attribute(names, "index"), (ir.Attribute(ir.Name("value"), "name"),))
    parameters = (ir.Parameter("value", source_names.declared(enum)),)
    return ir.Function(source_names.pack[enum], parameters, "int", (ir.Return(position),))


def _lower_unpack(enum: EnumType, source_names: SourceNames) -> ir.Function:
    """Lowers the function that returns the member at a position."""
    position = ir.Name("position")
    # TorchScript makes a constant of the list of all members. For each that the text names, it reads the whole class.
    members = ir.Call(ir.Name("list"), (ir.Name(source_names.classes[enum]),))
    item = ir.Call(ir.Attribute(members, "pop"), (position,))
    # A list counts negative positions from its end.
    is_positive = ir.Equal(ir.Call(ir.Attribute(ir.Name("math"), "fabs"), (position,)), position)
    body = (
        ir.If(is_positive, (ir.Return(item),)),
        ir.Raise(ir.Literal(f"torchremote: no such member of {enum.name}")),
    )
    parameters = (ir.Parameter("position", "int"),)
    return ir.Function(source_names.unpack[enum], parameters, source_names.declared(enum), body)
