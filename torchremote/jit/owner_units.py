"""Compiles what runs the calls of hosted modules, when an owner first hosts one: see lower/hosting.py.

Each `host_...` returns a scripted function that puts a module into the table of its interface. Its arguments:

* always: handle, module, device, and whether tensors move there and back;
* in turn and gathering, also: the strand (None without the native part), and `is_same`: the handle leads to this module
  already, or to one of which this is a copy;
* gathering, also: the most calls that become one, and whether gradients may flow to the module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .. import _torch, native
from .contract import Contract
from .lower import (
    COUNTED,
    COUNTS,
    SourceNames,
    ir,
    lower_counted,
    lower_forked,
    lower_gathering,
    lower_hosting,
    lower_in_turn,
)
from .read.model import Interface, Method
from .script.cache import Cache
from .script.common import counting_definitions
from .script.compile import script
from .script.emit import emit

Host = Callable[..., None]

_units: Cache[tuple[object, ...], dict[str, Any]] = Cache()  # by contract, and what else the unit depends on
_counted: Cache[Contract, torch.jit.ScriptModule] = Cache()


def host_at_once(contract: Contract) -> Host:
    """Compiles what runs the calls of a module at once."""
    host: Host = _hosting(contract)["host"]
    return host


def host_forked(contract: Contract) -> Host:
    """Compiles what runs the calls of a module at once, each in a fork."""
    return _host(contract, "host_forked", lambda: lower_forked(contract.interface, contract.source_names))


def host_in_turn(contract: Contract) -> Host:
    """Compiles what runs the calls of a module one after another."""
    interface, names = contract.interface, contract.source_names
    return _host(contract, "host_in_turn", lambda: lower_in_turn(interface, names, native.available()))


def host_gathering(contract: Contract, methods: tuple[Method, ...]) -> Host:
    """Compiles what gathers the calls of a module. `methods` are the contract's, with the marks of whoever hosts it."""

    def lower() -> ir.Unit:
        interface = Interface(contract.interface.qualified_name, methods)
        return lower_gathering(interface, SourceNames(interface), native.available())

    return _host(contract, "host_gathering", lower, methods)


def _hosting(contract: Contract) -> dict[str, Any]:
    """Compiles the unit `hosting`, on which the others depend."""

    def compile_unit() -> dict[str, Any]:
        unit = lower_hosting(contract.interface, contract.source_names)
        return script(unit, emit(unit), around=contract.defined, table=contract.constant)

    return _units.get((contract,), compile_unit)


def _host(contract: Contract, name: str, lower: Callable[[], ir.Unit], *depends: object) -> Host:
    """Compiles a unit, and returns its function of that name. `depends`: what it depends on beside the contract."""

    def compile_unit() -> dict[str, Any]:
        unit, around = lower(), {**contract.defined, **_hosting(contract)}
        return script(unit, emit(unit), around=around, table=contract.constant)

    host: Host = _units.get((contract, name, *depends), compile_unit)[name]
    return host


def counted_module(contract: Contract, module: torch.jit.ScriptModule, counts: object) -> torch.jit.ScriptModule:
    """Makes a module that calls `module`, and counts its calls in `counts`.

    That is an object of the native part; or without it, what the keys begin with of the numbers in torch's logger. The
    module implements the contract's interface, as `module` does.
    """

    def compile_counted() -> torch.jit.ScriptModule:
        unit = lower_counted(contract.interface, contract.source_names, native.available())
        written: list[torch.nn.Module] = []

        def fill(empty: torch.nn.Module) -> None:
            setattr(empty, COUNTED, module)
            written.append(empty)

        around = {**contract.defined, **counting_definitions()}
        first: torch.jit.ScriptModule = script(unit, emit(unit), around=around, fill=fill)["CountedModule"]
        # All others are copies of it. It is never let go, nor what it was scripted from, and neither must keep a hosted
        # module alive.
        _torch.set_child(first, COUNTED, first)
        _torch.replace_child(first, COUNTED, first)
        delattr(written[0], COUNTED)
        return first

    counted = _torch.copy_module(_counted.get(contract, compile_counted))
    _torch.set_child(counted, COUNTED, module)
    _torch.set_attribute(counted, COUNTS, counts)
    return counted
