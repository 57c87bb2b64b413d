"""Lowers the two kinds of link through which a stub calls: one that is connected, and one that is not.

Note [The link]
    A stub does not call rpc_async itself, because torch.jit.save would write that call in a form that cannot be loaded
    again. So the call is in a class behind an interface. An archive holds the interface, and never the live object. A
    stub holds a `Disconnected` until it is attached to a module; then it holds a `Connected`. A link knows nothing of
    the user's classes, because values come to it packed. So an archive can be connected where those classes are
    missing.

    Each link knows the stub's *address*: the number of the protocol, the interface's qualified name and declaration,
    worker, served name ("" for an unnamed module) and timeout. An archive of a stub holds no more than that. A
    `Connected` also knows the *route*: handle, device, mapped devices, and the lease. It gives the flags of a call.

    With the native part, the link of a module with a name also has an object of it, which knows where the module is by
    now: see native/following.cpp.
"""

from __future__ import annotations

from typing import Final

from ..read.model import RESERVED_PREFIX, Interface, Method
from ..read.types import ListType
from . import ir
from .convert import Direction
from .plan import plan_tensors, wire_type
from .prepare import preparing
from .send import WAIT_HERE, WAIT_HERE_PARAMETERS, Sending
from .source_names import SourceNames
from .units import SELF, begin_message, crossing, declare, future, unit

LINK: Final = f"{RESERVED_PREFIX}_link"
ATTACH: Final = f"{RESERVED_PREFIX}_attach"
ADDRESS: Final = f"{RESERVED_PREFIX}_address"
ROUTE: Final = f"{RESERVED_PREFIX}_route"
FLAGS: Final = f"{RESERVED_PREFIX}_flags"
"""The method that gives the flags of a call that is made here and now: with each, a call in turn takes a ticket."""
ADDRESS_TYPE: Final = "Tuple[int, str, str, str, str, float]"
ADDRESS_PARTS: Final = ("protocol", "qualified_name", "declaration", "worker", "name", "timeout")
# The lease is really an RRef to a Python object. TorchScript has no type for that, and never opens the lease.
_ROUTE_PARTS: Final = {
    "handle": "int",
    "device": "str",  # the module's device when the stub was made
    "devices": "List[torch.device]",  # the devices in the caller's device map to the worker
    "lease": "Optional[RRef[int]]",
    "stream": "int",  # of the calls of this link, if its module runs them in turn; otherwise 0: see runtime/turns.py
}
ROUTE_TYPE: Final = f"Optional[Tuple[{', '.join(_ROUTE_PARTS.values())}]]"
_FOLLOWED: Final = "followed"
_NATIVE_ROUTE: Final = "native_route"


def packed_name(method: str) -> str:
    """Returns the name of the stub's method for packed values: it takes them, and returns a Future of a packed one."""
    return f"{RESERVED_PREFIX}_packed_{method}"


def lower_link(interface: Interface, source_names: SourceNames, native: bool, cuda: bool) -> ir.Unit:
    """Lowers the unit of the two links, and of the functions that attach them to a stub.

    Args:
        native: whether calls are sent by the native part: see send.py, Note [Native calls].
        cuda: whether torch has operators for CUDA: see send.py, Note [Results on an accelerator].
    """
    sending = Sending(interface, source_names, native, cuda)
    link = (
        *(
            declare(method.name, crossing(method, source_names), future(source_names.wire(method.returns)))
            for method in interface.messages
        ),
        declare(ADDRESS, (), ADDRESS_TYPE),
        declare(ROUTE, (), ROUTE_TYPE),
        declare(FLAGS, (), "int"),
        declare(WAIT_HERE, WAIT_HERE_PARAMETERS[1:], "None"),
    )
    attach = declare(ATTACH, (ir.Parameter("link", "Link"),), "None")
    return unit(
        interface,
        "link",
        "The links through which a stub calls.",
        ir.Interface("Link", link, of_modules=False),
        ir.Interface("Attachable", (attach,), of_modules=True),
        _lower_disconnected(interface, source_names),
        *(_lower_in_parts(method.many, sending) for method in interface.methods),
        _lower_connected(sending),
        _lower_attach("detach", "Disconnected", {"address": ADDRESS_TYPE}),
        _lower_attach("attach", "Connected", {"address": ADDRESS_TYPE, **_ROUTE_PARTS, **_more_parts(sending)}),
    )


def _more_parts(sending: Sending) -> dict[str, str]:
    """Returns what `attach` takes beside address and route: whether calls follow their module by the native part."""
    return {_FOLLOWED: "bool"} if sending.native else {}


def _lower_attach(name: str, link: str, parts: dict[str, str]) -> ir.Function:
    """Lowers the function that gives `stub` a new link."""
    made = ir.call(link, *(ir.Name(part) for part in parts))
    body = ir.Do(ir.called(ir.Name("stub"), ATTACH, made))
    parameters = (ir.Parameter("stub", "Attachable"), *(ir.Parameter(part, kind) for part, kind in parts.items()))
    return ir.Function(name, parameters, "None", (body,))


def _lower_disconnected(interface: Interface, source_names: SourceNames) -> ir.Class:
    """Lowers the link that refuses calls."""
    why = ir.call("disconnected", ir.Name("worker"), ir.Name("name"))
    init = _lower_init({}, ir.AssignAttribute(ir.Name("self"), _field_name("refusal"), why, "str"))
    refuse = ir.Raise(ir.Operation("+", ir.Literal(f"torchremote: {interface.name}: "), _field("refusal")))
    flags = ir.Function(FLAGS, (SELF,), "int", (refuse,))
    wait_here = ir.Function(WAIT_HERE, WAIT_HERE_PARAMETERS, "None", (ir.Pass(),))
    route = ir.Function(ROUTE, (SELF,), ROUTE_TYPE, (ir.Return(ir.Literal(None)),))
    methods = [init, _RETURN_ADDRESS, route, flags, wait_here]
    for method in interface.messages:
        where = ir.Literal(f"torchremote: {interface.name}.{method.name}: ")
        refusal = ir.Raise(ir.Operation("+", where, _field("refusal")))
        parameters = (SELF, *crossing(method, source_names))
        methods.append(ir.Function(method.name, parameters, future(source_names.wire(method.returns)), (refusal,)))
    return ir.Class("Disconnected", tuple(methods))


def _lower_connected(sending: Sending) -> ir.Class:
    """Lowers the link that sends calls."""
    flags = ir.call("in_stream", ir.call("flags_of", ir.Name("devices")), ir.Name("stream"))
    tickets = ir.call("tickets_of", ir.Name("stream"))
    kept = [
        ir.AssignAttribute(ir.Name("self"), _field_name("worker"), ir.Name("worker"), "str"),
        ir.AssignAttribute(ir.Name("self"), _field_name("timeout"), ir.Name("timeout"), "float"),
        ir.AssignAttribute(ir.Name("self"), _field_name("flags"), flags, "int"),
        ir.AssignAttribute(ir.Name("self"), _field_name("tickets"), tickets, "Optional[torch.Generator]"),
    ]
    if sending.native:
        known: list[ir.Expression] = [*map(ir.Name, _KNOWN_TO_NATIVE), _field("tickets"), ir.Name(_FOLLOWED)]
        made = ir.Call(ir.native("new_route"), tuple(known))
        kept.append(ir.AssignAttribute(ir.Name("self"), _field_name(_NATIVE_ROUTE), made, "Any"))
    init = _lower_init(_ROUTE_PARTS, *kept, more=_more_parts(sending))
    methods = [
        init,
        _RETURN_ADDRESS,
        _lower_route(sending),
        sending.lower_wait_here(_field("devices")),
        _lower_flags(sending),
    ]
    for method in sending.interface.methods:
        methods += [_lower_call(method, sending), _lower_many(method, sending)]
    return ir.Class("Connected", tuple(methods))


_KNOWN_TO_NATIVE: Final = ("address", "handle", "device", "devices", "stream")
_FOUND_BY_NATIVE: Final = ("handle", "device", "stream")


def _lower_route(sending: Sending) -> ir.Function:
    """Lowers the getter of the route. What the native part has found since stands in the place of what is old."""
    if not sending.native:
        route = ir.TupleOf(tuple(_field(part) for part in _ROUTE_PARTS))
        return ir.Function(ROUTE, (SELF,), ROUTE_TYPE, (ir.Return(route),))
    old = (_field(_NATIVE_ROUTE), *(_field(part) for part in _FOUND_BY_NATIVE))
    found = ir.Assign(_FOUND_BY_NATIVE, ir.Call(ir.native("reached"), old))
    parts = (ir.Name(part) if part in _FOUND_BY_NATIVE else _field(part) for part in _ROUTE_PARTS)
    return ir.Function(ROUTE, (SELF,), ROUTE_TYPE, (found, ir.Return(ir.TupleOf(tuple(parts)))))


def _lower_flags(sending: Sending) -> ir.Function:
    """Lowers the getter of the flags of a call that is made here and now."""
    flags: ir.Expression = _NOW
    if sending.native:
        flags = ir.Call(ir.native("flags_by"), (_field(_NATIVE_ROUTE), _NOW))
    return ir.Function(FLAGS, (SELF,), "int", (ir.Return(flags),))


# -- the fields of a link


def _field_name(name: str) -> str:
    """Returns a field's name that no method of the user's has: a class has one namespace for fields and methods."""
    return f"{RESERVED_PREFIX}_its_{name}"


def _field(name: str) -> ir.Expression:
    return ir.Attribute(ir.Name("self"), _field_name(name))


def _lower_init(route: dict[str, str], *calls: ir.Statement, more: dict[str, str] | None = None) -> ir.Function:
    """Lowers a constructor, which keeps the address and the route.

    Args:
        calls: keep what every call reads.
        more: what else it takes.
    """
    kept = {"address": ADDRESS_TYPE, **route}
    parameters = tuple(ir.Parameter(part, kind) for part, kind in {**kept, **(more or {})}.items())
    keep = (ir.AssignAttribute(ir.Name("self"), _field_name(name), ir.Name(name), kind) for name, kind in kept.items())
    body = (*keep, ir.Assign(ADDRESS_PARTS, ir.Name("address")), *calls)
    return ir.Function("__init__", (SELF, *parameters), None, body)


_RETURN_ADDRESS: Final = ir.Function(ADDRESS, (SELF,), ADDRESS_TYPE, (ir.Return(_field("address")),))


_NOW: Final = ir.call("with_ticket", ir.call("flags_now", _field("flags")), _field("tickets"))


def _call_flags(sending: Sending) -> ir.Expression:
    """Returns the flags of a call that is made here and now."""
    # The native part itself gives a ticket to a call that follows its module.
    return _NOW if sending.native else ir.called(ir.Name("self"), FLAGS)


# -- calls


def _lower_call(method: Method, sending: Sending) -> ir.Function:
    """Lowers the method that checks packed arguments and sends a call."""
    interface, source_names = sending.interface, sending.source_names
    parameters = crossing(method, source_names)
    names = source_names.scope(["self", *(parameter.name for parameter in parameters)])
    message = ir.Name(names.fresh("message"))
    body: list[ir.Statement] = []
    values: list[ir.Expression] = [_field("handle")]
    for parameter, argument, plan in zip(parameters, method.arguments, plan_tensors(method), strict=True):
        where = ir.Literal(f"{interface.name}.{method.name}.{argument.name}")
        converter = preparing(Direction.UNPACK, method, names, source_names, _field("devices"), where, message)
        kind = wire_type(argument.type)
        values.append(converter.convert(ir.Name(parameter.name), kind, plan, parameter.name, body))
    flags = _call_flags(sending)  # after the tensors: a call that is refused takes no ticket, and they have a flag
    if method.takes_tensors:
        body.insert(0, begin_message(message))
        flags = ir.call("with_sparse", flags, message)
    call = sending.send(method, [*values, flags], _field("worker"), _field("timeout"), _field(_NATIVE_ROUTE))
    body.append(ir.Return(call))
    return ir.Function(method.name, (SELF, *parameters), future(source_names.wire(method.returns)), tuple(body))


def _lower_many(method: Method, sending: Sending) -> ir.Function:
    """Lowers the method that sends many calls in one message, or in several if they are too many for one."""
    interface, source_names = sending.interface, sending.source_names
    many = method.many
    calls, batch = parameters = crossing(many, source_names)
    names = source_names.scope(["self", *(parameter.name for parameter in parameters)])
    parts, part, message, sizes, call, flags = ir.variables(names, "parts", "part", "message", "sizes", "call", "flags")
    of_calls = many.arguments[0].type
    loop: list[ir.Statement] = [
        ir.If(
            ir.call("begins_message", message, sizes),
            (
                ir.new_list(part, source_names.wire(of_calls)),
                ir.append(parts, part),
            ),
        ),
    ]
    values = []
    for index, (argument, plan) in enumerate(zip(method.arguments, plan_tensors(method), strict=True)):
        where = ir.Literal(f"{interface.name}.{many.name}.{argument.name}")
        converter = preparing(Direction.UNPACK, method, names, source_names, _field("devices"), where, message, sizes)
        values.append(converter.convert(ir.Item(call, index), wire_type(argument.type), plan, argument.name, loop))
    loop.append(ir.append(ir.Item(parts, -1), ir.TupleOf(tuple(values))))
    first = [_field("handle"), ir.Item(parts, 0), ir.Name(batch.name), flags]
    one = ir.Return(sending.send(many, first, _field("worker"), _field("timeout"), _field(_NATIVE_ROUTE)))
    several = (
        ir.Name(source_names.in_parts[many.name]),
        *(_field("worker"), _field("timeout"), _field("handle"), flags, _field("devices"), _field("lease")),
        *(parts, ir.Name(batch.name)),
        *([_field(_NATIVE_ROUTE)] if sending.native else []),
    )
    body = (
        ir.new_list(parts, source_names.wire(ListType(of_calls))),
        begin_message(message),
        ir.assign(sizes, ir.ListOf((ir.Literal(0), ir.Literal(0)))),
        ir.For((call.id,), ir.Name(calls.name), tuple(loop)),
        ir.assign(flags, ir.Literal(0)),
        ir.If(
            ir.Operation("!=", ir.length(parts), ir.Literal(0)),  # no call, no ticket
            (ir.assign(flags, ir.call("with_sparse", _call_flags(sending), message)),),
        ),
        ir.If(ir.Operation("==", ir.length(parts), ir.Literal(1)), (one,)),
        ir.Return(ir.Call(ir.FORK, several)),
    )
    return ir.Function(many.name, (SELF, *parameters), future(source_names.wire(many.returns)), body)


def _lower_in_parts(many: Method, sending: Sending) -> ir.Function:
    """Lowers the function that sends several messages, one after the other, so that calls keep their order.

    It runs as a fork of TorchScript's, which holds no thread while it waits.
    """
    source_names = sending.source_names
    names = source_names.scope()
    worker, timeout, handle, flags, devices, lease, parts, batch, part, results, pending, route = ir.variables(
        names, *"worker timeout handle flags devices lease parts batch part results pending route".split()
    )
    done = ir.length(results)
    sent = sending.send(many, [handle, part, ir.Operation("+", batch, done), flags], worker, timeout, route)
    loop = (
        ir.assign(pending, sent),
        ir.Do(ir.called(results, "extend", ir.called(pending, "wait"))),
        *sending.lower_arrival(devices, names),
        # The first message had the ticket. The others follow it anyhow.
        ir.assign(flags, ir.call("without_ticket", flags)),
    )
    of_parts = source_names.wire(ListType(many.arguments[0].type))
    kinds = {worker: "str", timeout: "float", handle: "int", flags: "int", devices: _ROUTE_PARTS["devices"]}
    kinds |= {lease: _ROUTE_PARTS["lease"], parts: of_parts, batch: "int"} | ({route: "Any"} if sending.native else {})
    returns = source_names.wire(many.returns)
    return ir.Function(
        source_names.in_parts[many.name],
        tuple(ir.Parameter(name.id, kind) for name, kind in kinds.items()),
        returns,
        (
            ir.new_list(results, returns),
            ir.For((part.id,), parts, loop),
            # The stub may be gone by then, and would take the module with it.
            ir.Do(ir.call("hold", lease)),
            ir.Return(results),
        ),
    )
