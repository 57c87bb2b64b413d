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
    value = ir.Name("value")
    body: list[ir.Statement] = [
        ir.If(ir.Equal(value, _member(enum, name, source_names)), (ir.Return(ir.Literal(position)),))
        for position, (name, _) in enumerate(enum.members)
    ]
    refusal = ir.Raise(ir.Literal(f"torchremote: not a member of {enum.name}"))
    parameters = (ir.Parameter("value", source_names.declared(enum)),)
    return ir.Function(source_names.pack[enum], parameters, "int", (*body, refusal))


def _lower_unpack(enum: EnumType, source_names: SourceNames) -> ir.Function:
    position = ir.Name("position")
    body: list[ir.Statement] = [
        ir.If(ir.Equal(position, ir.Literal(number)), (ir.Return(_member(enum, name, source_names)),))
        for number, (name, _) in enumerate(enum.members)
    ]
    refusal = ir.Raise(ir.Literal(f"torchremote: no such member of {enum.name}"))
    parameters = (ir.Parameter("position", "int"),)
    return ir.Function(source_names.unpack[enum], parameters, source_names.declared(enum), (*body, refusal))


def _member(enum: EnumType, name: str, source_names: SourceNames) -> ir.Expression:
    return ir.Attribute(ir.Name(source_names.classes[enum]), name)
