"""What runs on an owner: the table of its modules, and the endpoints that calls run."""

from __future__ import annotations

from ..read.model import Interface, Method
from ..runtime import table
from . import ir
from .connected import lower_connected
from .convert import Converter, Direction
from .names import Names
from .plan import KEEP, Placement, plan_endpoint
from .scope import declare, endpoint, endpoint_name, renamed, scope_of, unit
from .spell import Spelling

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
    endpoints = []
    for method in interface.methods:
        endpoints.append(_lower_endpoint(interface, placement, method, spelling))
        endpoints.append(_lower_many_endpoint(interface, placement, method, spelling))
    return unit(interface, placement.value, _COMMENTS[placement], *endpoints, *lower_connected(interface, spelling))


def _lower_endpoint(interface: Interface, placement: Placement, method: Method, spelling: Spelling) -> ir.Function:
    names = spelling.names()
    table_name, handle = names.fresh("table"), names.fresh("handle")
    parameters = renamed(method, names, [spelling.wire(argument.type) for argument in method.arguments])
    module, device = names.fresh("module"), names.fresh("device")
    found = ir.Call(ir.Name("find"), (ir.Name(table_name), ir.Name(handle)))
    run, result = lower_run(interface, placement, method, parameters, module, device, names, spelling)
    return ir.Function(
        endpoint(method),
        (ir.Parameter(table_name, "Table"), ir.Parameter(handle, "int"), *parameters),
        spelling.wire(method.returns),
        (ir.Assign((module, device), found), *run, ir.Return(result)),
        endpoint=endpoint_name(interface, placement, method),
    )


def _lower_many_endpoint(interface: Interface, placement: Placement, method: Method, spelling: Spelling) -> ir.Function:
    """Runs many calls of `method`, in their order, on the one module that it finds first."""
    many = method.many
    names = spelling.names()
    table, handle, calls, mark = (names.fresh(name) for name in ("table", "handle", "calls", "mark"))
    module, device, results, call = (names.fresh(name) for name in ("module", "device", "results", "call"))
    parameters = renamed(method, names, [spelling.wire(argument.type) for argument in method.arguments])
    arguments = [
        ir.Assign((parameter.name,), ir.Item(ir.Name(call), index)) for index, parameter in enumerate(parameters)
    ]
    run, result = lower_run(interface, placement, method, parameters, module, device, names, spelling)
    position = ir.Concatenation(ir.Name(mark), ir.Call(ir.Name("len"), (ir.Name(results),)))
    loop = (
        ir.Do(ir.Call(ir.Name("note"), (ir.Name(table), position))),
        *arguments,
        *run,
        ir.Do(ir.Call(ir.Attribute(ir.Name(results), "append"), (result,))),
    )
    types = {table: "Table", handle: "int", calls: spelling.wire(many.arguments[0].type), mark: "int"}
    returns = spelling.wire(many.returns)
    return ir.Function(
        endpoint(many),
        tuple(ir.Parameter(name, type) for name, type in types.items()),
        returns,
        (
            ir.Assign((module, device), ir.Call(ir.Name("find"), (ir.Name(table), ir.Name(handle)))),
            ir.Assign((results,), ir.Empty("[]"), returns),
            ir.For((call,), ir.Name(calls), loop),
            ir.Return(ir.Name(results)),
        ),
        endpoint=endpoint_name(interface, placement, many),
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
) -> tuple[tuple[ir.Statement, ...], ir.Expression]:
    """What an owner does for a call: arguments in, the method, its result out, which is returned as it crosses.

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
    return tuple(body), result


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
