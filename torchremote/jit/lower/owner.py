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
from .convert import Converter, Direction, restoring
from .gathering import HELD, lower_gathers
from .gradients import lower_search_in_arguments, lower_search_in_result
from .in_turn import Starting
from .plan import KEEP, plan_result, plan_stub, plan_tensors, returns_tensors, wire_type
from .source_names import SourceNames
from .units import (
    MESSAGE_TYPE,
    PROGRESS_TYPE,
    RUN_PARAMETERS,
    begin_message,
    crossing,
    declare,
    endpoint,
    endpoint_name,
    renamed,
    scope_of,
    unit,
)


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
        HELD,
        lower_gathers(interface, source_names),
        *definitions("table"),
    )


def lower_endpoints(interface: Interface, source_names: SourceNames, native: bool = False) -> ir.Unit:
    """Lowers the unit of the functions that calls run on the owner: see Note [One endpoint].

    Args:
        native: whether calls in turn run in strands of the native part: see in_turn.py, Note [Strands].
    """
    starting = Starting(f"{scope_of(interface)}.endpoints", native)
    functions = []
    for method in interface.methods:
        functions.append(lower_run(interface, method, "ModuleInterface", source_names))
        functions.append(_lower_endpoint(interface, method, source_names, starting))
        functions.append(_lower_run_many(method, source_names))
        functions.append(_lower_endpoint(interface, method.many, source_names, starting))
    return unit(interface, "endpoints", "The endpoints, which calls run on the owner.", *functions)


def _lower_endpoint(
    interface: Interface, message: Method, source_names: SourceNames, starting: Starting
) -> ir.Function:
    """Lowers the endpoint of a message. It runs the method at once, or in turn, or gathers it: see runtime/."""
    names = source_names.scope()
    table, handle, module, slot, turns, gathering = (
        ir.Name(names.fresh(name)) for name in ("table", "handle", "module", "slot", "turns", "gathering")
    )
    parameters = crossing(message, source_names, names)
    flags = ir.Name(names.fresh("flags"))
    run, returns = source_names.run[message.name], source_names.wire(message.returns)
    placed = (module, ir.Attribute(slot, "device"), ir.Attribute(slot, "moves"), flags)
    first = placed if message.each is None else (ir.Attribute(table, "progress"), *placed)
    values = tuple(ir.Name(parameter.name) for parameter in parameters)
    held = ir.Call(ir.Name(HELD.name), (module,))
    given = (held if part is module else part for part in first)
    gathered = ir.Call(ir.Attribute(gathering, message.name), (turns, *given, *values))
    begun: list[ir.Statement] = []
    if message.each is None and returns_tensors(message):
        sent = ir.Name(names.fresh("message"))
        begun.append(begin_message(sent))
        first = (*first, sent)
    called: tuple[ir.Expression, ...] = (*first, *values)
    in_turn = ir.Attribute(starting.start(run, turns, (turns, *called), returns), "wait")
    return ir.Function(
        endpoint(message),
        (
            ir.Parameter(table.id, "Table"),
            ir.Parameter(handle.id, "int"),
            *parameters,
            ir.Parameter(flags.id, "int"),
        ),
        returns,
        (
            ir.Assign((module.id, slot.id), ir.Call(ir.Name("find"), (table, handle))),
            ir.Assign((turns.id,), ir.Attribute(slot, "turns")),
            *begun,
            ir.If(
                ir.IsPresent(turns.id),
                (
                    ir.Assign((gathering.id,), ir.Attribute(slot, "gathering")),
                    ir.If(ir.IsPresent(gathering.id), (ir.Return(gathered),)),
                    ir.Return(ir.Call(in_turn)),
                ),
            ),
            ir.Return(ir.Call(ir.Name(run), (ir.Literal(None), *called))),
        ),
        endpoint=endpoint_name(interface, message),
    )


def _lower_run_many(method: Method, source_names: SourceNames) -> ir.Function:
    """Lowers the function that runs many calls of `method`, in their order. Its parameters are as for `lower_run`."""
    many = method.many
    names = source_names.scope()
    kinds = {"turns": "Optional[Turns]", "progress": PROGRESS_TYPE, **RUN_PARAMETERS}
    turns, progress, module, device, moves, flags = first = [ir.Name(names.fresh(name)) for name in kinds]
    calls, batch = parameters = crossing(many, source_names, names)
    results, call = ir.Name(names.fresh("results")), ir.Name(names.fresh("call"))
    arguments = (ir.Item(call, index) for index in range(len(method.arguments)))
    at_once = ir.Literal(None)  # the batch has waited
    begun: list[ir.Statement] = []
    sent: list[ir.Expression] = []
    if returns_tensors(method):  # the results of all calls are in one message
        message = ir.Name(names.fresh("message"))
        begun.append(begin_message(message))
        sent.append(message)
    called: tuple[ir.Expression, ...] = (at_once, module, device, moves, flags, *sent, *arguments)
    position = ir.Concatenation(ir.Name(batch.name), ir.Call(ir.Name("len"), (results,)))
    run = ir.Call(ir.Name(source_names.run[method.name]), called)
    loop = (
        ir.Do(ir.Call(ir.Name("note_progress"), (progress, position))),
        ir.Do(ir.Call(ir.Attribute(results, "append"), (run,))),
    )
    returns = source_names.wire(many.returns)
    return ir.Function(
        source_names.run[many.name],
        (*(ir.Parameter(name.id, kind) for name, kind in zip(first, kinds.values(), strict=True)), *parameters),
        returns,
        (
            _wait_for_turn(turns, flags),
            *begun,
            ir.Assign((results.id,), ir.Empty("[]"), returns),
            ir.For((call.id,), ir.Name(calls.name), loop),
            ir.Return(results),
        ),
    )


def _wait_for_turn(turns: ir.Name, flags: ir.Name) -> ir.Statement:
    """Lowers what a function that runs calls begins with."""
    return ir.If(ir.IsPresent(turns.id), (ir.Do(ir.Call(ir.Name("wait_for_turn"), (turns, flags))),))


def lower_run(interface: Interface, method: Method, module_type: str, source_names: SourceNames) -> ir.Function:
    """Lowers the function that runs a call: it moves and unpacks the arguments, runs the method, and packs the result.

    Its parameters are the module's turns (None: it runs at once), the module, of `module_type`, its device, whether
    tensors move to that and back, the flags of the call, the message of its result if that may have tensors, and the
    packed arguments.
    """
    names = source_names.scope()
    kinds = {"turns": "Optional[Turns]", **RUN_PARAMETERS, "module": module_type}
    if returns_tensors(method):
        kinds["message"] = MESSAGE_TYPE
    turns, module, device, moves, flags, *message = first = [ir.Name(names.fresh(name)) for name in kinds]
    parameters = renamed(method, names, [source_names.wire(argument.type) for argument in method.arguments])
    moving = Converter(
        names,
        source_names,
        Direction.UNPACK,
        lambda tensor: ir.Call(ir.Attribute(tensor, "to"), (device,)),
        lambda value: ir.Call(ir.Name("move_any"), (value, device)),
    )
    has_sparse = ir.Call(ir.Name("has_sparse"), (flags,))
    recorded = ir.Name(names.fresh("recorded"))
    body = [_wait_for_turn(turns, flags)]
    if method.carries_gradients:  # see Note [Gradients that never come]
        body += lower_search_in_arguments(method, parameters, flags, recorded, names)
    body += _on_tensors(restoring(names, source_names), has_sparse, method, parameters)
    body += _on_tensors(moving, moves, method, parameters)
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
        changes_of = "detaching_changes_of" if method.detached else "changes_of"
        body.append(ir.Assign((changes.id,), ir.Call(ir.Name(changes_of), (flags, moves))))
        where = ir.Literal(f"{interface.name}.{method.name}.return")
        outward = Converter(
            names,
            source_names,
            Direction.PACK,
            lambda tensor: ir.Call(ir.Name("returned"), (tensor, changes, where, *message)),
            lambda value: ir.Call(ir.Name("returned_any"), (value, changes, where, *message)),
        )
        packed = outward.convert(result, method.returns, plan_result(method), "out", body)
    if method.carries_gradients:
        if not isinstance(packed, ir.Name):
            packed, value = ir.Name(names.fresh("done")), packed
            body.append(ir.Assign((packed.id,), value))
        body += lower_search_in_result(method, packed, recorded, names, f"{interface.name}.{method.name}")
    return ir.Function(
        source_names.run[method.name],
        (*(ir.Parameter(name.id, kind) for name, kind in zip(first, kinds.values(), strict=True)), *parameters),
        source_names.wire(method.returns),
        (*body, ir.Return(packed)),
        placed=True,  # link/failures.py looks for its name in tracebacks
    )


def _on_tensors(
    converter: Converter, condition: ir.Expression, method: Method, parameters: tuple[ir.Parameter, ...]
) -> list[ir.Statement]:
    """Lowers the branch that converts the packed arguments' tensors under a condition, if they may have any."""
    body: list[ir.Statement] = []
    for parameter, argument, plan in zip(parameters, method.arguments, plan_tensors(method), strict=True):
        if plan != KEEP:
            name = ir.Name(parameter.name)
            converted = converter.convert(name, wire_type(argument.type), plan, parameter.name, body)
            body.append(ir.Assign((parameter.name,), converted))
    return [ir.If(condition, tuple(body))] if body else []
