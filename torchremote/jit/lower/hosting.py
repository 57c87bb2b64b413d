"""Lowers the unit of the functions that run the calls of a hosted module, which an owner alone compiles.

Note [What runs calls]
    Each slot of the owner's table has an object that runs calls: a `Runs`, with a method for every message. `AtOnce`
    runs each in the thread that brings it, and `Forked` (forked.py) in a fork. `InTurn` (in_turn.py) and `Gathering`
    (gathering.py) have it wait for its turn. Each of the four has a unit, which is compiled when the first module is
    hosted in that way; the other three also need that of `AtOnce`. So a caller compiles none of it, and an endpoint is
    one call, whatever the owner does.

Note [One function for all devices]
    A call of a method runs the same function, wherever the module is. It branches on the slot's module and on the flags
    that the call carries (runtime/tensors.py):

    * If the module is on an accelerator, tensors in the arguments move there. Results move back to the CPU, unless the
      caller has a device map to this worker. If the module is on the CPU, nothing moves.
    * If the caller's grad mode is off, the method runs without gradients, and no result requires one.

    So a module can move to another device while callers use it, and a stub need not know the device.

Note [Compared interfaces]
    Wherever a value of an interface is used as another one, TorchScript compares the two, method by method, with all
    parameters. If these were of an interface with as many methods, that would take its square of time. So functions
    take a module in a `Hosted`, which is a class.
"""

from __future__ import annotations

from typing import Final

from ..read.model import RESERVED_PREFIX, Interface, Method
from ..runtime import definitions
from . import ir
from .convert import Converter, Direction, restoring
from .copies import copy_containers, has_plain_containers
from .gradients import lower_search_in_arguments, lower_search_in_result
from .names import Names
from .plan import KEEP, plan_packing, plan_result, plan_tensors, wire_type
from .source_names import SourceNames
from .units import MESSAGE_TYPE, RUN_PARAMETERS, SELF, begin_message, renamed, run_scope, unit

ITS_MODULE: Final = f"{RESERVED_PREFIX}_its_module"
"""The field with the module of what runs its calls. These classes also have methods with the names of the user's."""


def lower_hosting(interface: Interface, source_names: SourceNames) -> ir.Unit:
    """Lowers the unit: see Note [What runs calls]. Its function `host` puts a module into the table."""
    parts: list[ir.Definition] = [lower_hosted("ModuleInterface"), *definitions("progress")]
    for method in interface.methods:
        parts += [lower_run(interface, method, source_names), _lower_run_many(method, source_names)]
    parts += [_lower_class(interface, source_names), lower_host("host", ir.call("AtOnce", HOSTED_HERE))]
    return unit(interface, "hosting", "What runs the calls of hosted modules.", *parts)


def lower_hosted(module_type: str) -> ir.Class:
    """Lowers the class of a module with its device, and with whether tensors move there and back."""
    fields = {"module": module_type, "device": "torch.device", "moves": "bool"}
    body = (ir.AssignAttribute(ir.Name("self"), name, ir.Name(name)) for name in fields)
    given = (ir.Parameter(name, kind) for name, kind in fields.items())
    return ir.Class("Hosted", (ir.Function("__init__", (SELF, *given), None, tuple(body)),))


HOSTED_HERE: Final = ir.call("Hosted", ir.Name("module"), ir.Name("device"), ir.Name("moves"))
"""Makes a `Hosted` of the parameters of a function that puts a module into the table."""

_AT_ONCE: Final = ir.Literal(None)  # in place of an order of calls


def lower_host(
    name: str,
    runs: ir.Expression,
    turns: ir.Expression = _AT_ONCE,
    parameters: tuple[ir.Parameter, ...] = (),
    begin: tuple[ir.Statement, ...] = (),
) -> ir.Function:
    """Lowers a function that Python calls, and that makes a handle lead to a module.

    Args:
        runs, turns: what runs the module's calls, and the order of these.
        parameters: those that it has beside the handle, and the module with its device.
        begin: what it begins with.
    """
    first = {"table": "Table", "handle": "int", "module": "ModuleInterface", "device": "torch.device", "moves": "bool"}
    given = (ir.Parameter(name, kind) for name, kind in first.items())
    put = ir.Do(ir.call("put", ir.Name("table"), ir.Name("handle"), runs, turns))
    return ir.Function(name, (*given, *parameters), "None", (*begin, put), bound=True)


def _lower_class(interface: Interface, source_names: SourceNames) -> ir.Class:
    """Lowers the class that runs calls in the thread that brings them."""
    methods = [lower_init()]
    for message in interface.messages:
        names, first, packed = run_scope(message, source_names)
        self, *progress, flags = ir.named(first)
        hosted = ir.Attribute(self, ITS_MODULE)
        begun, run = begin_run(message, (*progress, hosted, flags), ir.named(packed), names, source_names)
        returns = source_names.wire(message.returns)
        body = (*begun, *finish_run(message, run, hosted, flags, names))
        methods.append(ir.Function(message.name, (*first, *packed), returns, body))
    return ir.Class("AtOnce", tuple(methods))


def lower_init(*others: tuple[ir.Parameter, str], module: str = "Hosted") -> ir.Function:
    """Lowers `__init__` of a class that runs calls.

    Args:
        others: more of its parameters, and their fields.
        module: the type of what has the module.
    """
    kept = ((ir.Parameter(module.lower(), module), ITS_MODULE), *others)
    body = (ir.AssignAttribute(ir.Name(SELF.name), field, ir.Name(parameter.name)) for parameter, field in kept)
    return ir.Function("__init__", (SELF, *(parameter for parameter, _ in kept)), None, tuple(body))


def begin_run(
    message: Method,
    first: tuple[ir.Expression, ...],
    packed: tuple[ir.Expression, ...],
    names: Names,
    source_names: SourceNames,
) -> tuple[list[ir.Statement], ir.Call]:
    """Returns the statements that come before a call is run, and the expression that runs it.

    Args:
        first: the progress of many calls; the `Hosted`; and the flags.
    """
    begun: list[ir.Statement] = []
    if message.each is None and message.returns_tensors:
        sent = ir.Name(names.fresh("message"))
        begun.append(begin_message(sent))
        first = (*first, sent)
    return begun, run_of(message, (*first, *packed), source_names)


def run_of(message: Method, given: tuple[ir.Expression, ...], source_names: SourceNames) -> ir.Call:
    """Returns the expression that runs a call, which has waited for its turn. `given`: as `lower_run` says."""
    return ir.call(source_names.run[message.name], *given)


def finish_run(
    message: Method, run: ir.Expression, hosted: ir.Expression, flags: ir.Expression, names: Names
) -> tuple[ir.Statement, ...]:
    """Returns the statements that run a call, and return its result: see runtime/accelerator.py."""
    if not message.returns_tensors:
        return (ir.Return(run),)
    result = ir.Name(names.fresh("result"))
    finish = ir.Do(ir.call("finish", flags, ir.Attribute(hosted, "device")))
    return (ir.assign(result, run), finish, ir.Return(result))


def _lower_run_many(method: Method, source_names: SourceNames) -> ir.Function:
    """Lowers the function that runs many calls of `method`, in their order. Its parameters are as for `lower_run`."""
    many = method.many
    names, first, packed = run_scope(many, source_names, {}, RUN_PARAMETERS)
    progress, hosted, flags = ir.named(first)
    calls, batch = ir.named(packed)
    results, call = ir.variables(names, "results", "call")
    arguments = (ir.Item(call, index) for index in range(len(method.arguments)))
    begun: list[ir.Statement] = []
    sent: list[ir.Expression] = []
    if method.returns_tensors:  # the results of all calls are in one message
        message = ir.Name(names.fresh("message"))
        begun.append(begin_message(message))
        sent.append(message)
    position = ir.Operation("+", batch, ir.length(results))
    run = run_of(method, (hosted, flags, *sent, *arguments), source_names)
    loop = (
        ir.Do(ir.call("note_progress", progress, position)),
        ir.append(results, run),
    )
    returns = source_names.wire(many.returns)
    return ir.Function(
        source_names.run[many.name],
        (*first, *packed),
        returns,
        (
            *begun,
            ir.new_list(results, returns),
            ir.For((call.id,), calls, loop),
            ir.Return(results),
        ),
    )


def lower_run(interface: Interface, method: Method, source_names: SourceNames) -> ir.Function:
    """Lowers the function that runs a call: it moves and unpacks the arguments, runs the method, and packs the result.

    Its parameters are the module, as a `Hosted`; the flags of the call; the message of its result, if that may have
    tensors; and the packed arguments. See Note [One function for all devices].
    """
    names = source_names.scope()
    kinds = {**RUN_PARAMETERS, "message": MESSAGE_TYPE} if method.returns_tensors else RUN_PARAMETERS
    hosted, flags, *message = first = ir.variables(names, *kinds)
    module, device, moves = (ir.Attribute(hosted, name) for name in ("module", "device", "moves"))
    parameters = renamed(method, names, source_names.wire)
    moving = Converter(
        names,
        source_names,
        Direction.UNPACK,
        lambda tensor: ir.called(tensor, "to", device),
        lambda value: ir.call("move_any", value, device),
    )
    has_sparse = ir.call("has_sparse", flags)
    recorded = ir.Name(names.fresh("recorded"))
    body: list[ir.Statement] = []
    if method.carries_gradients:  # see gradients.py, Note [Gradients that never come]
        body += lower_search_in_arguments(method, parameters, flags, recorded, names)
    body += _on_tensors(restoring(names, source_names), has_sparse, method, parameters)
    body += _on_tensors(moving, moves, method, parameters)
    inward = Converter(names, source_names, Direction.UNPACK)
    arguments = tuple(
        inward.convert(ir.Name(parameter.name), argument.type, plan_packing(argument.type), parameter.name, body)
        for parameter, argument in zip(parameters, method.arguments, strict=True)
    )
    result = ir.Name(names.fresh("result"))
    call = ir.assign(result, ir.called(module, method.name, *arguments))
    body.append(ir.If(ir.call("needs_grad", flags), (call,), (ir.without_gradients(call),)))
    packed: ir.Expression = result
    if plan_result(method) != KEEP:
        changes = ir.Name(names.fresh("changes"))
        changes_of = "detaching_changes_of" if method.detached else "changes_of"
        body.append(ir.assign(changes, ir.call(changes_of, flags, moves)))
        where = ir.Literal(f"{interface.name}.{method.name}.return")
        outward = Converter(
            names,
            source_names,
            Direction.PACK,
            lambda tensor: ir.call("returned", tensor, changes, where, *message),
            lambda value: ir.call("returned_any", value, changes, where, *message),
        )
        packed = outward.convert(result, method.returns, plan_result(method), "out", body)
    shares = has_plain_containers(method.returns)
    if shares or method.carries_gradients:
        done = packed if isinstance(packed, ir.Name) else ir.Name(names.fresh("done"))
        if done is not packed:
            body.append(ir.assign(done, packed))
        if shares:  # see runtime/turns.py, Note [Results of calls in turn]
            copying, copied = copy_containers(done, method.returns, names, source_names)
            copying.append(ir.assign(done, copied))
            body.append(ir.If(ir.call("is_in_turn", flags), tuple(copying)))
        if method.carries_gradients:
            body += lower_search_in_result(method, done, recorded, names, f"{interface.name}.{method.name}")
        packed = done
    return ir.Function(
        source_names.run[method.name],
        (*ir.typed(first, kinds), *parameters),
        source_names.wire(method.returns),
        (*body, ir.Return(packed)),
        placed=True,  # so that the traceback of an error of the module shows where it was called
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
            body.append(ir.assign(name, converted))
    return [ir.If(condition, tuple(body))] if body else []
