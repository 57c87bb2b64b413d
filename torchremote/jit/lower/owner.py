"""What runs on an owner: the table of its modules, and the endpoints that calls run."""

from __future__ import annotations

from .. import ir, table
from ..convert import Converter, Direction
from ..model import Interface, Method
from ..names import Names
from ..plan import KEEP, Placement, plan_endpoint
from ..spell import Spelling
from .scope import declare, endpoint, endpoint_name, renamed, scope_of, unit
from .wire import lower_connected

_COMMENTS = {
    Placement.HOST: "Modules on the CPU: nothing moves.",
    Placement.STAGED: "Modules on an accelerator, no device map: tensors move in, and back to the CPU.",
    Placement.MAPPED: "Modules on an accelerator, with a device map: tensors move in, and stay.",
}
_ANYWHERE = ir.Literal(None)  # torch itself refuses a result on a device that its caller has not mapped


def lower_table(interface: Interface, spelling: Spelling) -> ir.Unit:
    hosted = []
    for method in interface.methods:
        parameters = tuple(ir.Parameter(part.name, spelling.declared(part.type)) for part in method.arguments)
        hosted.append(declare(method.name, parameters, spelling.declared(method.returns)))
    name = f"{scope_of(interface)}.table.Hosted"
    return unit(
        interface,
        "table",
        "What an owner keeps its modules in.",
        ir.Interface("Hosted", name, tuple(hosted), of_modules=True),
        *table.DEFINITIONS,
    )


def lower_placement(interface: Interface, placement: Placement, spelling: Spelling) -> ir.Unit:
    """The endpoints of `placement`, and the wire that calls them."""
    endpoints = [_lower_endpoint(interface, placement, method, spelling) for method in interface.methods]
    return unit(interface, placement.value, _COMMENTS[placement], *endpoints, *lower_connected(interface, spelling))


def _lower_endpoint(interface: Interface, placement: Placement, method: Method, spelling: Spelling) -> ir.Function:
    names = spelling.names()
    table_name, handle = names.fresh("table"), names.fresh("handle")
    parameters = renamed(method, names, [spelling.wire(argument.type) for argument in method.arguments])
    module, device = names.fresh("module"), names.fresh("device")
    found = ir.Call(ir.Name("find"), (ir.Name(table_name), ir.Name(handle)))
    run = lower_run(interface, placement, method, parameters, module, device, names, spelling)
    return ir.Function(
        endpoint(method),
        (ir.Parameter(table_name, "Table"), ir.Parameter(handle, "int"), *parameters),
        spelling.wire(method.returns),
        (ir.Assign((module, device), found), *run),
        endpoint=endpoint_name(interface, placement, method),
    )


def lower_run(
    interface: Interface,
    placement: Placement,
    method: Method,
    parameters: tuple[ir.Parameter, ...],
    module: str,
    device: str,
    names: Names,
    spelling: Spelling,
) -> tuple[ir.Statement, ...]:
    """What an owner does for a call: arguments in, the method, its result out.

    Args:
        parameters: of the function in which this stands: the arguments, as they cross.
        module, device: what holds the module there, and the device that it is on.
        names: the function's scope.
    """

    def to_device(tensor: ir.Expression) -> ir.Expression:
        return ir.Call(ir.Attribute(tensor, "to"), (ir.Name(device),))

    def any_to_device(value: ir.Expression) -> ir.Expression:
        return ir.Call(ir.Name("move_any"), (value, ir.Name(device)))

    plan = plan_endpoint(method, placement)
    body: list[ir.Statement] = []
    inward = Converter(names, spelling, Direction.UNPACK, to_device, any_to_device)
    arguments = tuple(
        inward.convert(ir.Name(parameter.name), argument.type, walk, parameter.name, body)
        for parameter, argument, walk in zip(parameters, method.arguments, plan.arguments, strict=True)
    )
    result: ir.Expression = ir.Call(ir.Attribute(ir.Name(module), method.name), arguments)
    if plan.result != KEEP:
        name = names.fresh("result")
        body.append(ir.Assign((name,), result))
        where = ir.Literal(f"{interface.name}.{method.name}.return")
        outward = sending(names, spelling, where, to_cpu=placement is Placement.STAGED)
        result = outward.convert(ir.Name(name), method.returns, plan.result, "out", body)
    return (*body, ir.Return(result))


def sending(names: Names, spelling: Spelling, where: ir.Expression, to_cpu: bool) -> Converter:
    """Converts values that are sent from here, wherever to. `where`: what an error calls them."""
    cpu = ir.Call(ir.Attribute(ir.Name("torch"), "device"), (ir.Literal("cpu"),))

    def send(tensor: ir.Expression) -> ir.Expression:
        moved = ir.Call(ir.Attribute(tensor, "cpu")) if to_cpu else tensor
        return ir.Call(ir.Name("sendable"), (moved, _ANYWHERE, where))

    def send_any(value: ir.Expression) -> ir.Expression:
        moved = ir.Call(ir.Name("move_any"), (value, cpu)) if to_cpu else value
        return ir.Call(ir.Name("sendable_any"), (moved, _ANYWHERE, where))

    return Converter(names, spelling, Direction.PACK, send, send_any)
