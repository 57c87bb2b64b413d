"""Compiles calls whose results stay where the module is, when a stub of the interface first makes one."""

from __future__ import annotations

from typing import Any

from . import CompiledInterface, Contract
from .lower import ir, lower_references
from .lower.plan import crosses_otherwise
from .read.model import Method
from .script.cache import Cache
from .script.compile import script
from .script.emit import emit

_compiled: Cache[Contract, dict[str, Any]] = Cache()


def can_stay(method: Method) -> bool:
    """Says whether an RRef can refer to a method's result: to a value of its declared type, as the owner has it."""
    return not crosses_otherwise(method.returns)


def references_unit(contract: Contract) -> ir.Unit:
    """Lowers an interface's functions `<m>_remote`, of those methods whose results can stay."""
    methods = [method for method in contract.interface.methods if can_stay(method)]
    return lower_references(contract.interface, methods, contract.source_names)


def compile_references(compiled: CompiledInterface) -> dict[str, Any]:
    """Compiles an interface's functions `<m>_remote`. Returns them by name; see lower/references.py."""

    def compile_unit() -> dict[str, Any]:
        unit = references_unit(compiled.contract)
        return script(unit, emit(unit), around=compiled.contract.defined)

    return _compiled.get(compiled.contract, compile_unit)
