"""The command `emit`: prints what is generated for an interface, or for an exported program."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, Final

from .. import native
from ..jit import CompiledInterface, common_source, compile_interface
from ..jit.caller_units import references_unit
from ..jit.export import export_programs, source_of
from ..jit.lower import SourceNames, ir, lower_counted, lower_gathering
from ..jit.script.emit import emit
from .built import load_program, program_interface
from .targets import UsageError, find_class


def _lower_gathering(compiled: CompiledInterface) -> ir.Unit:
    marked = compiled.interface  # with the marks, which the contract lacks
    return lower_gathering(marked, SourceNames(marked), native.available())


def _lower_counted(compiled: CompiledInterface) -> ir.Unit:
    return lower_counted(compiled.contract.interface, compiled.contract.source_names, native.available())


def _lower_references(compiled: CompiledInterface) -> ir.Unit:
    return references_unit(compiled.contract)


_ALWAYS: Final = ("enums", "table", "endpoints", "link", "hosting", "forked", "in_turn", "stub")
_ON_DEMAND: Final[dict[str, Callable[[CompiledInterface], ir.Unit]]] = {
    "gathering": _lower_gathering,
    "counted": _lower_counted,
    "references": _lower_references,
}
"""The units that only some modules and calls need. They are not printed without `--unit`."""


def add_commands(commands: Any) -> None:
    """Adds the command to the subparsers of the command line."""
    emitting = commands.add_parser("emit", help="print what is generated for an interface, or for an exported program")
    emitting.add_argument(
        "interface", metavar="package.module:Interface|model.pt2", nargs="?", help="without: what all share"
    )
    emitting.add_argument(
        "--unit",
        choices=(*_ALWAYS, *_ON_DEMAND),
        help=f"only this part of it, of an interface; {', '.join(_ON_DEMAND)} are printed only so",
    )
    emitting.set_defaults(run=_emit)


def _emit(options: argparse.Namespace) -> None:
    print(_emitted(options.interface, options.unit), end="")


def _emitted(target: str | None, unit: str | None) -> str:
    is_program = target is not None and target.endswith(".pt2")
    if unit is not None and (target is None or is_program):
        has_none = f"{target} has no units" if is_program else "what all share has no units"
        raise UsageError(f"emit --unit {unit}: {has_none}; write package.module:Interface, or leave --unit out")
    if target is None:
        return common_source()
    if is_program:
        return _emitted_program(target)
    compiled = compile_interface(find_class(target))
    if unit is None:
        return compiled.source
    return emit(_ON_DEMAND[unit](compiled)).text if unit in _ON_DEMAND else compiled.sources[unit]


def _emitted_program(file: str) -> str:
    """Returns what is generated for a program that torch.export.save wrote."""
    program = load_program(file)
    contract = compile_interface(program_interface(program, file)).contract
    scripted = export_programs({"forward": program}, contract.interface, contract.defined)
    return source_of(scripted) or ""
