"""Lowers the units that run on an owner: the table of its modules, and the endpoints that calls run.

Note [One endpoint]
    A method has one endpoint, wherever its module is. It branches on the module's slot and on the flags that the call
    carries (runtime/tensors.py):

    * If the module is on an accelerator, tensors in the arguments move there. Results move back to the CPU, unless the
      caller has a device map to this worker. If the module is on the CPU, nothing moves.
    * If the caller's grad mode is off, the method runs without gradients, and no result requires one.

    So a module can move to another device while callers use it, and a stub need not know the device.
"""

from __future__ import annotations

from ..read.model import Interface, Method
from ..runtime import definitions
from . import ir
from .convert import Converter, Direction
from .names import Names
from .plan import KEEP, plan_result, plan_stub, plan_tensors, wire_type
from .source_names import SourceNames
from .units import declare, endpoint, endpoint_name, renamed, scope_of, unit


def lower_table(interface: Interface, source_names: SourceNames) -> ir.Unit:
    """Lowers the unit of the owner's table, and of the interface through which endpoints call modules."""
    methods = []
    for method in interface.methods:
        parameters = tuple(ir.Parameter(part.name, source_names.declared(part.type)) for part in method.arguments)
        methods.append(declare(method.name, parameters, source_names.declared(method.returns)))
    name = f"{scope_of(interface)}.table.ModuleInterface"
    return unit(
        interface,
        "table",
        "The owner's table of modules.",
        ir.Interface("ModuleInterface", name, tuple(methods), of_modules=True),
        *definitions("table"),
    )


def lower_endpoints(interface: Interface, source_names: SourceNames) -> ir.Unit:
    """Lowers the unit of the functions that calls run on the owner: see Note [One endpoint]."""
    functions = []
    for method in interface.methods:
        functions.append(lower_run(interface, method, "ModuleInterface", source_names))
        functions.append(_lower_endpoint(interface, method, source_names))
        functions.append(_lower_many_endpoint(interface, method, source_names))
    return unit(interface, "endpoints", "The endpoints, which calls run on the owner.", *functions)


def _lower_endpoint(interface: Interface, method: Method, source_names: SourceNames) -> ir.Function:
    """Lowers the endpoint that runs one call of `method`."""
    names = source_names.scope()
    first, found, called = _begin(names)
    parameters = renamed(method, names, [source_names.wire(argument.type) for argument in method.arguments])
    run = ir.Call(ir.Name(source_names.run[method.name]), (*called, *(ir.Name(one.name) for one in parameters)))
    return ir.Function(
        endpoint(method),
        (*first, *parameters),
        source_names.wire(method.returns),
        (found, ir.Return(run)),
        endpoint=endpoint_name(interface, method),
    )


def _lower_many_endpoint(interface: Interface, method: Method, source_names: SourceNames) -> ir.Function:
    """Lowers the endpoint that runs many calls of `method`, in their order. It looks for the module once."""
    many = method.many
    names = source_names.scope()
    first, found, called = _begin(names)
    calls, batch, results, call = (ir.Name(names.fresh(name)) for name in ("calls", "batch", "results", "call"))
    arguments = (ir.Item(call, index) for index in range(len(method.arguments)))
    run = ir.Call(ir.Name(source_names.run[method.name]), (*called, *arguments))
    position = ir.Concatenation(batch, ir.Call(ir.Name("len"), (results,)))
    loop = (
        ir.Do(ir.Call(ir.Name("note_progress"), (ir.Name(first[0].name), position))),
        ir.Do(ir.Call(ir.Attribute(results, "append"), (run,))),
    )
    returns = source_names.wire(many.returns)
    of_calls = ir.Parameter(calls.id, source_names.wire(many.arguments[0].type))
    return ir.Function(
        endpoint(many),
        (*first, of_calls, ir.Parameter(batch.id, "int")),
        returns,
        (
            found,
            ir.Assign((results.id,), ir.Empty("[]"), returns),
            ir.For((call.id,), calls, loop),
            ir.Return(results),
        ),
        endpoint=endpoint_name(interface, many),
    )


def _begin(names: Names) -> tuple[tuple[ir.Parameter, ...], ir.Statement, tuple[ir.Expression, ...]]:
    """Returns an endpoint's first parameters, how it finds the module, and the first arguments for `lower_run`."""
    table, handle, flags, module, slot = (
        ir.Name(names.fresh(name)) for name in ("table", "handle", "flags", "module", "slot")
    )
    found = ir.Assign((module.id, slot.id), ir.Call(ir.Name("find"), (table, handle)))
    kinds = {table: "Table", handle: "int", flags: "int"}
    parameters = tuple(ir.Parameter(name.id, kind) for name, kind in kinds.items())
    return parameters, found, (module, ir.Attribute(slot, "device"), ir.Attribute(slot, "moves"), flags)


def lower_run(interface: Interface, method: Method, module_type: str, source_names: SourceNames) -> ir.Function:
    """Lowers the function that runs a call: it moves and unpacks the arguments, runs the method, and packs the result.

    Its parameters are the module, of `module_type`, its device, whether tensors move to that and back, the flags of the
    call, and the packed arguments.
    """
    names = source_names.scope()
    module, device, moves, flags = (ir.Name(names.fresh(name)) for name in ("module", "device", "moves", "flags"))
    parameters = renamed(method, names, [source_names.wire(argument.type) for argument in method.arguments])
    body = _move_in(method, parameters, device, moves, names, source_names)
    inward = Converter(names, source_names, Direction.UNPACK)
    arguments = tuple(
        inward.convert(ir.Name(parameter.name), argument.type, plan, parameter.name, body)
        for parameter, argument, plan in zip(parameters, method.arguments, plan_stub(method).arguments, strict=True)
    )
    result = ir.Name(names.fresh("result"))
    call = ir.Assign((result.id,), ir.Call(ir.Attribute(module, method.name), arguments))
    body.append(ir.If(ir.Call(ir.Name("needs_grad"), (flags,)), (call,), (ir.WithoutGradients((call,)),)))
    packed: ir.Expression = result
    if plan_result(method) != KEEP:
        changes = ir.Name(names.fresh("changes"))
        body.append(ir.Assign((changes.id,), ir.Call(ir.Name("changes_of"), (flags, moves))))
        where = ir.Literal(f"{interface.name}.{method.name}.return")
        outward = Converter(
            names,
            source_names,
            Direction.PACK,
            lambda tensor: ir.Call(ir.Name("returned"), (tensor, changes, where)),
            lambda value: ir.Call(ir.Name("returned_any"), (value, changes, where)),
        )
        packed = outward.convert(result, method.returns, plan_result(method), "out", body)
    kinds = {module: module_type, device: "torch.device", moves: "bool", flags: "int"}
    return ir.Function(
        source_names.run[method.name],
        (*(ir.Parameter(name.id, kind) for name, kind in kinds.items()), *parameters),
        source_names.wire(method.returns),
        (*body, ir.Return(packed)),
        placed=True,  # link/failures.py looks for its name in tracebacks
    )


def _move_in(
    method: Method,
    parameters: tuple[ir.Parameter, ...],
    device: ir.Name,
    moves: ir.Name,
    names: Names,
    source_names: SourceNames,
) -> list[ir.Statement]:
    """Lowers the branch that moves the arguments' tensors to the module's device, if they have any."""
    body: list[ir.Statement] = []
    moving = Converter(
        names,
        source_names,
        Direction.UNPACK,
        lambda tensor: ir.Call(ir.Attribute(tensor, "to"), (device,)),
        lambda value: ir.Call(ir.Name("move_any"), (value, device)),
    )
    for parameter, argument, plan in zip(parameters, method.arguments, plan_tensors(method), strict=True):
        if plan != KEEP:
            name = ir.Name(parameter.name)
            moved = moving.convert(name, wire_type(argument.type), plan, parameter.name, body)
            body.append(ir.Assign((parameter.name,), moved))
    return [ir.If(moves, tuple(body))] if body else []
