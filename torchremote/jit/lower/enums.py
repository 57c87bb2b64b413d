"""The types unit: functions that translate what torch cannot carry."""

from __future__ import annotations

from ..read.model import Interface
from ..read.types import EnumType
from . import ir
from .scope import unit
from .spell import Spelling


def lower_types(interface: Interface, spelling: Spelling) -> ir.Unit:
    definitions: list[ir.Definition] = []
    for enum in spelling.pack:
        definitions += [_lower_pack(enum, spelling), _lower_unpack(enum, spelling)]
    return unit(interface, "types", "What translates values.", *definitions)


def _lower_pack(enum: EnumType, spelling: Spelling) -> ir.Function:
    value = ir.Name("value")
    body: list[ir.Statement] = [
        ir.If(ir.Equal(value, _member(enum, name, spelling)), (ir.Return(ir.Literal(position)),))
        for position, (name, _) in enumerate(enum.members)
    ]
    refusal = ir.Raise(ir.Literal(f"torchremote: not a member of {enum.name}"))
    parameters = (ir.Parameter("value", spelling.declared(enum)),)
    return ir.Function(spelling.pack[enum], parameters, "int", (*body, refusal))


def _lower_unpack(enum: EnumType, spelling: Spelling) -> ir.Function:
    position = ir.Name("position")
    body: list[ir.Statement] = [
        ir.If(ir.Equal(position, ir.Literal(number)), (ir.Return(_member(enum, name, spelling)),))
        for number, (name, _) in enumerate(enum.members)
    ]
    refusal = ir.Raise(ir.Literal(f"torchremote: no such member of {enum.name}"))
    parameters = (ir.Parameter("position", "int"),)
    return ir.Function(spelling.unpack[enum], parameters, spelling.declared(enum), (*body, refusal))


def _member(enum: EnumType, name: str, spelling: Spelling) -> ir.Expression:
    return ir.Attribute(ir.Name(spelling.classes[enum]), name)
