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
from .units import crossing, declare, endpoint, endpoint_name, renamed, scope_of, unit


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
        functions.append(_lower_run_many(method, source_names))
        for message in (method, method.many):
            functions.append(_lower_in_turn(message, source_names))
            functions.append(_lower_endpoint(interface, message, source_names))
    return unit(interface, "endpoints", "The endpoints, which calls run on the owner.", *functions)


def _lower_endpoint(interface: Interface, message: Method, source_names: SourceNames) -> ir.Function:
    """Lowers the endpoint of a message. It runs the method at once, or in turn: see runtime/turns.py."""
    names = source_names.scope()
    table, handle, module, slot = (ir.Name(names.fresh(name)) for name in ("table", "handle", "module", "slot"))
    parameters = crossing(message, source_names, names)
    flags = ir.Name(names.fresh("flags"))
    found = ir.Assign((module.id, slot.id), ir.Call(ir.Name("find"), (table, handle)))
    arguments = (*(ir.Name(one.name) for one in parameters), flags)
    turns = ir.Name(names.fresh("turns"))
    in_turn = ir.Call(ir.FORK, (ir.Name(source_names.in_turn[message.name]), turns, table, module, slot, *arguments))
    kinds = (ir.Parameter(table.id, "Table"), ir.Parameter(handle.id, "int"))
    return ir.Function(
        endpoint(message),
        (*kinds, *parameters, ir.Parameter(flags.id, "int")),
        source_names.wire(message.returns),
        (
            found,
            ir.Assign((turns.id,), ir.Attribute(slot, "turns")),
            ir.If(ir.IsPresent(turns.id), (ir.Return(ir.Call(ir.Attribute(in_turn, "wait"))),)),
            ir.Return(_call_run(message, source_names, table, module, slot, *arguments)),
        ),
        endpoint=endpoint_name(interface, message),
    )


def _lower_in_turn(message: Method, source_names: SourceNames) -> ir.Function:
    """Lowers the function that the endpoint forks if calls of the module run in turn."""
    names = source_names.scope()
    turns, table, module, slot = (ir.Name(names.fresh(name)) for name in ("turns", "table", "module", "slot"))
    parameters = crossing(message, source_names, names)
    flags = ir.Name(names.fresh("flags"))
    arguments = (*(ir.Name(one.name) for one in parameters), flags)
    kinds = {turns: "Turns", table: "Table", module: "ModuleInterface", slot: "Slot"}
    return ir.Function(
        source_names.in_turn[message.name],
        (*(ir.Parameter(name.id, kind) for name, kind in kinds.items()), *parameters, ir.Parameter(flags.id, "int")),
        source_names.wire(message.returns),
        (
            ir.Do(ir.Call(ir.Name("wait_for_turn"), (turns, flags))),
            ir.Return(_call_run(message, source_names, table, module, slot, *arguments)),
        ),
    )


def _call_run(
    message: Method,
    source_names: SourceNames,
    table: ir.Name,
    module: ir.Name,
    slot: ir.Name,
    *arguments: ir.Name,
) -> ir.Expression:
    """Returns the call of the function that runs a message. `arguments`: those of the message, and the flags."""
    *values, flags = arguments
    called: tuple[ir.Expression, ...] = (
        module,
        ir.Attribute(slot, "device"),
        ir.Attribute(slot, "moves"),
        flags,
        *values,
    )
    return ir.Call(ir.Name(source_names.run[message.name]), called if message.each is None else (table, *called))


def _lower_run_many(method: Method, source_names: SourceNames) -> ir.Function:
    """Lowers the function that runs many calls of `method`, in their order."""
    many = method.many
    names = source_names.scope()
    table, module, device, moves, flags = first = tuple(
        ir.Name(names.fresh(name)) for name in ("table", "module", "device", "moves", "flags")
    )
    calls, batch = parameters = crossing(many, source_names, names)
    results, call = ir.Name(names.fresh("results")), ir.Name(names.fresh("call"))
    arguments = (ir.Item(call, index) for index in range(len(method.arguments)))
    run = ir.Call(ir.Name(source_names.run[method.name]), (module, device, moves, flags, *arguments))
    position = ir.Concatenation(ir.Name(batch.name), ir.Call(ir.Name("len"), (results,)))
    loop = (
        ir.Do(ir.Call(ir.Name("note_progress"), (table, position))),
        ir.Do(ir.Call(ir.Attribute(results, "append"), (run,))),
    )
    returns = source_names.wire(many.returns)
    kinds = ("Table", "ModuleInterface", "torch.device", "bool", "int")
    return ir.Function(
        source_names.run[many.name],
        (*(ir.Parameter(name.id, kind) for name, kind in zip(first, kinds, strict=True)), *parameters),
        returns,
        (
            ir.Assign((results.id,), ir.Empty("[]"), returns),
            ir.For((call.id,), ir.Name(calls.name), loop),
            ir.Return(results),
        ),
    )


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
