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
    position = ir.called(names, "index", ir.Attribute(ir.Name("value"), "name"))
    parameters = (ir.Parameter("value", source_names.declared(enum)),)
    return ir.Function(source_names.pack[enum], parameters, "int", (ir.Return(position),))


def _lower_unpack(enum: EnumType, source_names: SourceNames) -> ir.Function:
    """Lowers the function that returns the member at a position."""
    # TorchScript makes a constant of the list of all members. Where the text names a member, it reads the whole class.
    members = ir.call("list", ir.Name(source_names.classes[enum]))
    count, name = ir.Literal(len(enum.members)), ir.Literal(enum.name)
    position = ir.call("position_in", count, ir.Name("position"), name)
    parameters = (ir.Parameter("position", "int"),)
    body = (ir.Return(ir.Item(members, position)),)
    return ir.Function(source_names.unpack[enum], parameters, source_names.declared(enum), body)
