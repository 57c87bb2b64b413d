"""Lowers the stub unit: the interface under the class's own name, and the stub, which calls through a link.

Note [Saved stubs]
    A stub's state is its address and its training mode. That is enough to find the module again, and has no live
    object. So torch.jit.save needs no help of ours, and torch.jit.load gives a stub that is `Disconnected`. TorchScript
    also asks for this state when it copies or freezes a model.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..._version import PROTOCOL
from ..read.literals import Value
from ..read.model import REQUIRED, Argument, Interface, Method, Required
from . import ir
from .convert import Converter, Direction, restoring
from .joining import lower_joining
from .link import ADDRESS, ADDRESS_PARTS, ADDRESS_TYPE, ATTACH, FLAGS, LINK, ROUTE, ROUTE_TYPE, packed_name
from .names import Names
from .plan import KEEP, is_called_packed, plan_packing, plan_result
from .send import WAIT_HERE
from .source_names import SourceNames
from .units import SELF, crossing, declare, future, renamed, unit
from .unsavable import why_unsavable


def lower_stub(interface: Interface, source_names: SourceNames) -> ir.Unit:
    """Lowers the unit of the interface and its stub. It is the caller's own, because it has the defaults."""
    remote: list[ir.Function] = []
    functions = lower_receiving(interface.messages, source_names)
    for method in interface.messages:
        returns = source_names.declared(method.returns)
        parameters = _declared(method, source_names)
        remote.append(declare(method.name, parameters, returns))
        remote.append(declare(f"{method.name}_async", parameters, future(returns)))
        if method.batched is not None:
            functions += lower_joining(interface, method, source_names)
        functions += _lower_send(method, source_names)
    names = {method.name for method in interface.methods}
    local = [function for function in remote if function.name in names]
    return unit(
        interface,
        "stub",
        f"{interface.qualified_name} as TorchScript knows it, and the stub that implements it.",
        ir.Interface("Local", tuple(local), of_modules=True, qualified_name=interface.qualified_name),
        ir.Interface("Remote", tuple(remote), of_modules=True),
        *functions,
        _lower_stub_module(interface, source_names),
    )


def _lower_send(method: Method, source_names: SourceNames) -> list[ir.Function]:
    """Lowers the function that packs a method's arguments, if that is needed."""
    if not _packs(method):
        return []
    body: list[ir.Statement] = []
    names = source_names.scope()
    link = names.fresh("link")
    parameters = renamed(method, names, source_names.declared)
    packing = Converter(names, source_names, Direction.PACK)
    packed = tuple(
        packing.convert(ir.Name(parameter.name), argument.type, plan_packing(argument.type), parameter.name, body)
        for parameter, argument in zip(parameters, method.arguments, strict=True)
    )
    body.append(ir.Return(_send(method, ir.Name(link), packed, source_names)))
    returns = future(source_names.wire(method.returns))
    given = (ir.Parameter(link, "Link"), *parameters)
    return [ir.Function(source_names.send[method.name], given, returns, tuple(body))]


def lower_receiving(methods: Iterable[Method], source_names: SourceNames) -> list[ir.Function]:
    """Lowers the functions that unpack results, as far as they are needed: one waits, the other forks."""
    functions: dict[str, ir.Function] = {}
    for method in methods:
        plan = plan_result(method)
        if plan != KEEP or _hides_torch(method):
            names = source_names.scope()
            pending, received = ir.variables(names, "pending", "received")
            arriving = ir.Parameter(pending.id, future(source_names.wire(method.returns)))
            returns = source_names.declared(method.returns)
            body: list[ir.Statement] = [ir.assign(received, ir.called(pending, "wait"))]
            result = restoring(names, source_names).convert(received, method.returns, plan, "out", body)
            receive = source_names.receive[method.returns]
            functions[receive] = ir.Function(receive, (arriving,), returns, (*body, ir.Return(result)))
        if plan_packing(method.returns) != KEEP:
            defer, forked = source_names.defer[method.returns], ir.Call(ir.FORK, (ir.Name(receive), pending))
            functions[defer] = ir.Function(defer, (arriving,), future(returns), (ir.Return(forked),))
    return list(functions.values())


def _lower_stub_module(interface: Interface, source_names: SourceNames) -> ir.Module:
    """Lowers the stub itself."""
    self = ir.Name("self")
    nowhere = ir.Literal((PROTOCOL, interface.qualified_name, interface.declaration, "", "", -1.0))
    parent = ir.Do(ir.called(ir.call("super"), "__init__"))
    methods = [ir.Function("__init__", (SELF,), None, (parent, _disconnect(nowhere)))]
    for method in interface.messages:
        methods += _lower_stub_methods(method, source_names)
        if is_called_packed(method):
            parameters = crossing(method, source_names)
            values = ir.named(parameters)
            call = _pass_on(method, ir.Attribute(self, LINK), values, source_names)
            returns = future(source_names.wire(method.returns))
            methods.append(ir.Function(packed_name(method.name), (SELF, *parameters), returns, (ir.Return(call),)))
    attach = (SELF, ir.Parameter("link", "Link"))
    methods.append(ir.Function(ATTACH, attach, "None", (ir.AssignAttribute(self, LINK, ir.Name("link")),)))
    for getter, kind in ((ADDRESS, ADDRESS_TYPE), (ROUTE, ROUTE_TYPE), (FLAGS, "int")):
        asked = ir.called(ir.Attribute(self, LINK), getter)
        methods.append(ir.Function(getter, (SELF,), kind, (ir.Return(asked),)))
    return ir.Module("Stub", (*methods, *_lower_state(interface)), fields=((LINK, "Link"),))


def _lower_state(interface: Interface) -> tuple[ir.Function, ir.Function]:
    """Lowers `__getstate__` and `__setstate__`: see Note [Saved stubs]."""
    self, address, state, training = (ir.Name(name) for name in ("self", "address", "state", "training"))
    state_type = f"Tuple[{ADDRESS_TYPE}, bool]"
    nameless = ir.Raise(
        ir.Literal(
            f"torchremote: {interface.name}: this stub's module has no name, so nobody could find it again, and the "
            "stub cannot be saved, nor copied or frozen inside a scripted model; create the module with name=..."
        )
    )
    getstate: tuple[ir.Statement, ...] = (
        ir.assign(address, ir.called(self, ADDRESS)),
        ir.Assign(ADDRESS_PARTS, address),
        ir.If(ir.Operation("==", ir.Name("name"), ir.Literal("")), (nameless,)),
        ir.Return(ir.TupleOf((address, ir.Attribute(self, training.id)))),
    )
    unsavable = why_unsavable(interface)
    if unsavable is not None:
        getstate = (ir.Raise(ir.Literal(f"torchremote: {interface.name}: this stub cannot be saved: {unsavable}")),)
    setstate = (
        ir.AssignAttribute(self, training.id, ir.Item(state, 1)),
        _disconnect(ir.Item(state, 0)),
    )
    return (
        ir.Function("__getstate__", (SELF,), state_type, getstate),
        ir.Function("__setstate__", (SELF, ir.Parameter(state.id, state_type)), "None", setstate),
    )


def _send(
    method: Method, link: ir.Expression, values: tuple[ir.Expression, ...], source_names: SourceNames
) -> ir.Expression:
    """Returns the expression for the Future of a call, with the batch's number 0 for many calls."""
    # TorchScript cannot catch a failure, so nobody asks which of many calls failed: the batch has the number 0.
    return _pass_on(method, link, values if method.each is None else (*values, ir.Literal(0)), source_names)


def _pass_on(
    method: Method, link: ir.Expression, values: tuple[ir.Expression, ...], source_names: SourceNames
) -> ir.Expression:
    """Returns the expression for the Future of a call with the packed `values`."""
    if method.each is not None and method.each.batched is not None:
        return ir.call(source_names.join[method.each.name], link, *values)
    return ir.called(link, method.name, *values)


def _disconnect(address: ir.Expression) -> ir.Statement:
    """Returns the statement that gives a stub a `Disconnected`."""
    return ir.AssignAttribute(ir.Name("self"), LINK, ir.call("Disconnected", address))


def _lower_stub_methods(method: Method, source_names: SourceNames) -> tuple[ir.Function, ir.Function]:
    """Lowers a stub's methods `<m>` and `<m>_async`."""
    own = Names(argument.name for argument in method.arguments).fresh("self")
    link = ir.Attribute(ir.Name(own), LINK)
    arguments = tuple(ir.Name(argument.name) for argument in method.arguments)
    if _packs(method):
        pending: ir.Expression = ir.call(source_names.send[method.name], link, *arguments)
    else:
        pending = _send(method, link, arguments, source_names)
    return lower_pair(method, ir.Parameter(own), pending, source_names, link)


def lower_pair(
    method: Method,
    self: ir.Parameter,
    pending: ir.Expression,
    source_names: SourceNames,
    link: ir.Expression | None = None,
) -> tuple[ir.Function, ir.Function]:
    """Lowers the methods `<m>` and `<m>_async` for one of an interface.

    Args:
        pending: a Future of the packed result.
        link: is told before `<m>` waits: see send.py, Note [Native calls].
    """
    parameters = (self, *_declared(method, source_names))
    waiting: list[ir.Statement] = []
    sent = pending
    if link is not None:
        sent = ir.Name(source_names.scope(parameter.name for parameter in parameters).fresh("pending"))
        waiting.append(ir.assign(sent, pending))
        waiting.append(ir.Do(ir.called(link, WAIT_HERE, sent)))
    awaited, deferred = ir.called(sent, "wait"), pending
    if plan_result(method) != KEEP or _hides_torch(method):
        awaited = ir.call(source_names.receive[method.returns], sent)
    if plan_packing(method.returns) != KEEP:
        deferred = ir.call(source_names.defer[method.returns], pending)
    returns = source_names.declared(method.returns)
    return (
        ir.Function(method.name, parameters, returns, (*waiting, ir.Return(awaited))),
        ir.Function(f"{method.name}_async", parameters, future(returns), (ir.Return(deferred),)),
    )


def _packs(method: Method) -> bool:
    """Says whether one of a method's arguments crosses as another type."""
    return any(plan_packing(argument.type) != KEEP for argument in method.arguments)


def _hides_torch(method: Method) -> bool:
    """Says whether an argument is called `torch`: it hides the name that TorchScript writes when it saves `wait`."""
    return any(argument.name == "torch" for argument in method.arguments)


def _declared(method: Method, source_names: SourceNames) -> tuple[ir.Parameter, ...]:
    """Returns the arguments as the user declared them."""

    def default(argument: Argument) -> Value | Required:
        return REQUIRED if isinstance(argument.default, Required) else source_names.default(argument.default)

    return tuple(
        ir.Parameter(argument.name, source_names.declared(argument.type), default(argument), argument.keyword_only)
        for argument in method.arguments
    )
