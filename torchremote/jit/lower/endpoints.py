"""Lowers the part of the owner that every worker compiles: the table of modules, and the endpoints that calls run.

An endpoint finds the module's slot and has the call run by what is there. How calls are run, only an owner needs: see
lower/hosting.py.
"""

from __future__ import annotations

from ..read.model import Interface, Method
from ..runtime import definitions
from . import ir
from .source_names import SourceNames, endpoint
from .units import crossing, declare, run_scope, unit


def lower_table(interface: Interface, source_names: SourceNames) -> ir.Unit:
    """Lowers the unit of the owner's table, and of the interfaces of modules and of what runs their calls."""
    modules = []
    for method in interface.methods:
        parameters = tuple(ir.Parameter(part.name, source_names.declared(part.type)) for part in method.arguments)
        modules.append(declare(method.name, parameters, source_names.declared(method.returns)))
    runs = []
    for message in interface.messages:
        _, (_, *first), packed = run_scope(message, source_names)
        runs.append(declare(message.name, (*first, *packed), source_names.wire(message.returns)))
    return unit(
        interface,
        "table",
        "The owner's table of modules.",
        ir.Interface("ModuleInterface", tuple(modules), of_modules=True),
        ir.Interface("Runs", tuple(runs), of_modules=False),
        *definitions("table"),
    )


def lower_endpoints(interface: Interface, source_names: SourceNames) -> ir.Unit:
    """Lowers the unit of the functions that calls run on the owner."""
    functions = (_lower_endpoint(message, source_names) for message in interface.messages)
    return unit(interface, "endpoints", "The endpoints, which calls run on the owner.", *functions)


def _lower_endpoint(message: Method, source_names: SourceNames) -> ir.Function:
    names = source_names.scope()
    table, handle = ir.variables(names, "table", "handle")
    parameters = crossing(message, source_names, names)
    flags = ir.Name(names.fresh("flags"))
    progress = () if message.each is None else (ir.Attribute(table, "progress"),)
    values = ir.named(parameters)
    run = ir.Attribute(ir.call("find", table, handle), message.name)
    return ir.Function(
        endpoint(message),
        (ir.Parameter(table.id, "Table"), ir.Parameter(handle.id, "int"), *parameters, ir.Parameter(flags.id, "int")),
        source_names.wire(message.returns),
        (ir.Return(ir.Call(run, (*progress, flags, *values))),),
        bound=True,
    )
