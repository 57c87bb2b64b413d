"""The stub unit: the interface under the class's own name, and the stub that implements it.

Note [Saved stubs]
    A stub's state is its address and whether it trains: enough to find the module again, and nothing that lives. So
    torch.jit.save needs no help of ours, and torch.jit.load gives a stub that is `Disconnected`. TorchScript asks for
    that state also when it copies or freezes a model.
"""

from __future__ import annotations

import math

from ..read.literals import Value, string
from ..read.model import REQUIRED, Argument, Interface, Method, Required
from ..read.types import EnumType, NamedTupleType
from . import ir
from .batched import lower_joined
from .convert import Converter, Direction
from .link import ADDRESS, ADDRESS_TYPE, ATTACH, NAME, WIRE, packed_name
from .names import REPLACED, Names
from .plan import KEEP, is_called_packed, plan_stub
from .scope import SELF, crossing, declare, future, renamed, scope_of, unit
from .spell import Spelling


def lower_stub(interface: Interface, spelling: Spelling) -> ir.Unit:
    remote: list[ir.Function] = []
    functions: list[ir.Function] = []
    for method in interface.messages:
        returns = spelling.declared(method.returns)
        parameters = _declared(method, spelling)
        remote.append(declare(method.name, parameters, returns))
        remote.append(declare(f"{method.name}_async", parameters, future(returns)))
        if method.batched is not None:
            functions += lower_joined(interface, method, spelling)
        functions += _lower_send_and_receive(method, spelling)
    names = {method.name for method in interface.methods}
    local = [function for function in remote if function.name in names]
    return unit(
        interface,
        "stub",
        f"{interface.qualified_name} as TorchScript knows it, and the stub that implements it.",
        ir.Interface("Local", interface.qualified_name, tuple(local), of_modules=True),
        ir.Interface("Remote", f"{scope_of(interface)}.stub.Remote", tuple(remote), of_modules=True),
        *functions,
        _lower_stub_module(interface, spelling),
    )


def _lower_send_and_receive(method: Method, spelling: Spelling) -> list[ir.Function]:
    """The functions that pack a method's arguments, and unpack its result, if it has any such."""
    plan = plan_stub(method)
    functions: list[ir.Function] = []
    body: list[ir.Statement] = []
    names = spelling.names()
    wire = names.fresh("wire")
    parameters = renamed(method, names, [spelling.declared(argument.type) for argument in method.arguments])
    if any(walk != KEEP for walk in plan.arguments):
        packing = Converter(names, spelling, Direction.PACK)
        packed = tuple(
            packing.convert(ir.Name(parameter.name), argument.type, walk, parameter.name, body)
            for parameter, argument, walk in zip(parameters, method.arguments, plan.arguments, strict=True)
        )
        body.append(ir.Return(_send(method, ir.Name(wire), packed, spelling)))
        returns = future(spelling.wire(method.returns))
        functions.append(
            ir.Function(spelling.send[method.name], (ir.Parameter(wire, "Wire"), *parameters), returns, tuple(body))
        )
    return [*functions, *lower_receive(method, spelling)]


def lower_receive(method: Method, spelling: Spelling) -> list[ir.Function]:
    """The functions that wait for a method's result and unpack it, and do that later, if they are needed."""
    plan = plan_stub(method)
    functions: list[ir.Function] = []
    if plan.result != KEEP or _hides_torch(method):
        names = spelling.names()
        pending, received = ir.Name(names.fresh("pending")), ir.Name(names.fresh("received"))
        arriving = ir.Parameter(pending.id, future(spelling.wire(method.returns)))
        returns = spelling.declared(method.returns)
        body: list[ir.Statement] = [ir.Assign((received.id,), ir.Call(ir.Attribute(pending, "wait")))]
        result = Converter(names, spelling, Direction.UNPACK).convert(
            received, method.returns, plan.result, "out", body
        )
        receive = spelling.receive[method.name]
        functions.append(ir.Function(receive, (arriving,), returns, (*body, ir.Return(result))))
    if plan.result != KEEP:
        # A task of TorchScript's own: it holds no thread while it waits.
        fork = ir.Attribute(ir.Attribute(ir.Name("torch"), "jit"), "fork")
        forked = ir.Return(ir.Call(fork, (ir.Name(receive), pending)))
        functions.append(ir.Function(spelling.defer[method.name], (arriving,), future(returns), (forked,)))
    return functions


def _lower_stub_module(interface: Interface, spelling: Spelling) -> ir.Module:
    self = ir.Name("self")
    nowhere = ir.Literal((interface.qualified_name, interface.declaration, "", "", -1.0))
    parent = ir.Do(ir.Call(ir.Attribute(ir.Call(ir.Name("super")), "__init__")))
    methods = [ir.Function("__init__", (SELF,), None, (parent, _disconnect(nowhere)))]
    for method in interface.messages:
        methods += _lower_stub_methods(method, spelling)
        if is_called_packed(method):
            parameters = crossing(method, spelling)
            values = tuple(ir.Name(parameter.name) for parameter in parameters)
            call = _pass_on(method, ir.Attribute(self, WIRE), values, spelling)
            returns = future(spelling.wire(method.returns))
            methods.append(ir.Function(packed_name(method.name), (SELF, *parameters), returns, (ir.Return(call),)))
    attach = (SELF, ir.Parameter("wire", "Wire"))
    methods.append(ir.Function(ATTACH, attach, "None", (ir.AssignAttribute(self, WIRE, ir.Name("wire")),)))
    address = ir.Return(ir.Call(ir.Attribute(ir.Attribute(self, WIRE), ADDRESS)))
    methods.append(ir.Function(ADDRESS, (SELF,), ADDRESS_TYPE, (address,)))
    return ir.Module("Stub", (*methods, *_lower_state(interface)), fields=((WIRE, "Wire"),))


def _lower_state(interface: Interface) -> tuple[ir.Function, ir.Function]:
    """See Note [Saved stubs]."""
    self, address, state, training = (ir.Name(name) for name in ("self", "address", "state", "training"))
    state_type = f"Tuple[{ADDRESS_TYPE}, bool]"
    nameless = ir.Raise(
        ir.Literal(
            f"torchremote: {interface.name}: this stub's module has no name, so nobody could find it again, and the "
            "stub cannot be saved, nor copied or frozen inside a scripted model; create the module with name=..."
        )
    )
    getstate: tuple[ir.Statement, ...] = (
        ir.Assign((address.id,), ir.Call(ir.Attribute(self, ADDRESS))),
        ir.If(ir.Equal(ir.Item(address, NAME), ir.Literal("")), (nameless,)),
        ir.Return(ir.TupleOf((address, ir.Attribute(self, training.id)))),
    )
    unsavable = _unsavable(interface)
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


def _unsavable(interface: Interface) -> str | None:
    """What TorchScript would write in a form that it cannot read again, and the remedy."""
    for named in interface.named_types:
        if isinstance(named, NamedTupleType) and not named.fields:
            return f"torch cannot load a NamedTuple without fields, as {named.name}; give it one"
        for name, value in named.members if isinstance(named, EnumType) else ():
            if isinstance(value, str) and string(value) != f'"{value}"':
                return f"torch cannot load an enum with a value as {named.name}.{name}'s; use plain letters"
            if isinstance(value, float) and not math.isfinite(value):
                return f"torch cannot load an enum with a value as {named.name}.{name}'s; use a finite one"
    for method in interface.methods:
        for argument in method.arguments:
            if argument.name in REPLACED:
                return f"torch gives {method.name}'s argument {argument.name!r} another name in an archive; rename it"
        defaults = [argument.has_default for argument in method.arguments]  # an archive knows no keyword-only ones
        if defaults != sorted(defaults):
            shown = method.declaration
            return f"torch cannot load a required argument behind one with a default; give it one, too: {shown}"
    return None


def _send(method: Method, wire: ir.Expression, values: tuple[ir.Expression, ...], spelling: Spelling) -> ir.Expression:
    # In TorchScript, nobody catches a failure, and so nobody asks which of many calls failed: there is no mark.
    return _pass_on(method, wire, values if method.each is None else (*values, ir.Literal(0)), spelling)


def _pass_on(
    method: Method, wire: ir.Expression, values: tuple[ir.Expression, ...], spelling: Spelling
) -> ir.Expression:
    """The future of what is sent with `values`, which are packed."""
    if method.each is not None and method.each.batched is not None:
        return ir.Call(ir.Name(spelling.join[method.each.name]), (wire, *values))
    return ir.Call(ir.Attribute(wire, method.name), values)


def _disconnect(address: ir.Expression) -> ir.Statement:
    return ir.AssignAttribute(ir.Name("self"), WIRE, ir.Call(ir.Name("Disconnected"), (address,)))


def _lower_stub_methods(method: Method, spelling: Spelling) -> tuple[ir.Function, ir.Function]:
    plan = plan_stub(method)
    own = Names(argument.name for argument in method.arguments).fresh("self")
    wire = ir.Attribute(ir.Name(own), WIRE)
    arguments = tuple(ir.Name(argument.name) for argument in method.arguments)
    if any(walk != KEEP for walk in plan.arguments):
        pending: ir.Expression = ir.Call(ir.Name(spelling.send[method.name]), (wire, *arguments))
    else:
        pending = _send(method, wire, arguments, spelling)
    return lower_pair(method, ir.Parameter(own), pending, spelling)


def lower_pair(
    method: Method, self: ir.Parameter, pending: ir.Expression, spelling: Spelling
) -> tuple[ir.Function, ir.Function]:
    """The two methods for one of an interface, sync and async. `pending`: the future of the result, as it crosses."""
    plan = plan_stub(method)
    awaited, deferred = ir.Call(ir.Attribute(pending, "wait")), pending
    if plan.result != KEEP or _hides_torch(method):
        awaited = ir.Call(ir.Name(spelling.receive[method.name]), (pending,))
    if plan.result != KEEP:
        deferred = ir.Call(ir.Name(spelling.defer[method.name]), (pending,))
    parameters = (self, *_declared(method, spelling))
    returns = spelling.declared(method.returns)
    return (
        ir.Function(method.name, parameters, returns, (ir.Return(awaited),)),
        ir.Function(f"{method.name}_async", parameters, future(returns), (ir.Return(deferred),)),
    )


def _hides_torch(method: Method) -> bool:
    """Whether an argument is called as TorchScript calls torch where it saves `wait`."""
    return any(argument.name == "torch" for argument in method.arguments)


def _declared(method: Method, spelling: Spelling) -> tuple[ir.Parameter, ...]:
    """The arguments as the user declared them."""

    def default(argument: Argument) -> Value | Required:
        return REQUIRED if isinstance(argument.default, Required) else spelling.default(argument.default)

    return tuple(
        ir.Parameter(argument.name, spelling.declared(argument.type), default(argument), argument.keyword_only)
        for argument in method.arguments
    )
