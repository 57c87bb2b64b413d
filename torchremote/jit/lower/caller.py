"""What runs on a caller: the stub, and the wire that it calls through.

Note [The wire]
    A stub does not call rpc_async itself. torch.jit.save would write that call in a form that cannot be loaded
    again, so it stands in a class behind an interface: what is saved is the interface, and never the live object.
    `Disconnected` is the twin that a stub holds until it is attached to a module. A wire knows nothing of the user's
    classes: values come to it packed, and so an archive can be connected where those classes are not.
"""

from __future__ import annotations

from .. import ir
from ..convert import Converter, Direction
from ..literals import Value
from ..model import REQUIRED, Argument, Interface, Method, Required
from ..names import RESERVED_PREFIX, Names
from ..plan import KEEP, crosses_otherwise, plan_stub, plan_wire, wire_type
from ..spell import Spelling
from .scope import SELF, crossing, declare, endpoint, future, renamed, scope_of, unit

WIRE = f"{RESERVED_PREFIX}_wire"
ATTACH = f"{RESERVED_PREFIX}_attach"


def packed_name(method: str) -> str:
    """The stub's method that takes arguments as they cross, and returns a Future of the result as it crossed."""
    return f"{RESERVED_PREFIX}_packed_{method}"


# -- the wire unit


def lower_wire(interface: Interface, spelling: Spelling) -> ir.Unit:
    scope = f"{scope_of(interface)}.wire"
    wire = tuple(
        declare(method.name, crossing(method, spelling), future(spelling.wire(method.returns)))
        for method in interface.methods
    )
    attach = declare(ATTACH, (ir.Parameter("wire", "Wire"),), "None")
    return unit(
        interface,
        "wire",
        "What a stub calls through.",
        ir.Interface("Wire", f"{scope}.Wire", wire, of_modules=False),
        _lower_disconnected(interface, spelling),
        ir.Interface("Attachable", f"{scope}.Attachable", (attach,), of_modules=True),
    )


def _lower_disconnected(interface: Interface, spelling: Spelling) -> ir.Class:
    methods = [ir.Function("__init__", (SELF,), None, (ir.Pass(),))]
    for method in interface.methods:
        refusal = ir.Raise(ir.Literal(f"torchremote: {interface.name}.{method.name}: this stub is not connected"))
        parameters = (SELF, *crossing(method, spelling))
        methods.append(ir.Function(method.name, parameters, future(spelling.wire(method.returns)), (refusal,)))
    return ir.Class("Disconnected", tuple(methods))


# -- in a placement's unit


def lower_connected(interface: Interface, spelling: Spelling) -> tuple[ir.Definition, ...]:
    """The wire that calls the endpoints of the unit that it is in, and the function that attaches it to a stub."""
    self = ir.Name("self")
    # A class has one namespace for fields and methods, and the methods' names are the user's.
    worker, handle, timeout, devices = (
        f"{RESERVED_PREFIX}_{field}" for field in ("worker", "handle", "timeout", "devices")
    )
    fields = {
        worker: "str",
        handle: "int",
        timeout: "float",
        # Those that the caller's device map to the worker knows.
        devices: "List[torch.device]",
        # The type is nominal: it is an RRef to a Python object, which TorchScript cannot name and never opens.
        f"{RESERVED_PREFIX}_lease": "Optional[RRef[int]]",
    }
    methods = [
        ir.Function(
            "__init__",
            (SELF, *(ir.Parameter(name, type) for name, type in fields.items())),
            None,
            tuple(ir.AssignAttribute(self, name, ir.Name(name), type) for name, type in fields.items()),
        )
    ]
    for method in interface.methods:
        parameters = crossing(method, spelling)
        names = spelling.names(["self", *(parameter.name for parameter in parameters)])
        body: list[ir.Statement] = []
        values: list[ir.Expression] = [ir.Attribute(self, handle)]
        for parameter, argument, plan in zip(parameters, method.arguments, plan_wire(method).arguments, strict=True):
            where = ir.Literal(f"{interface.name}.{method.name}.{argument.name}")
            checking = _checking(names, spelling, ir.Attribute(self, devices), where)
            type = wire_type(argument.type)
            values.append(checking.convert(ir.Name(parameter.name), type, plan, parameter.name, body))
        call = ir.Call(
            ir.Attribute(ir.Name("rpc"), "rpc_async"),
            (
                ir.Attribute(self, worker),
                ir.Name(endpoint(method)),
                ir.TupleOf(tuple(values)),
                ir.Empty("{}"),
                ir.Attribute(self, timeout),
            ),
        )
        body.append(ir.Return(call))
        methods.append(
            ir.Function(method.name, (SELF, *parameters), future(spelling.wire(method.returns)), tuple(body))
        )
    return ir.Class("Connected", tuple(methods)), _CONNECT


def _checking(names: Names, spelling: Spelling, devices: ir.Expression, where: ir.Expression) -> Converter:
    def send(tensor: ir.Expression) -> ir.Expression:
        return ir.Call(ir.Name("sendable"), (tensor, devices, where))

    def send_any(value: ir.Expression) -> ir.Expression:
        return ir.Call(ir.Name("sendable_any"), (value, devices, where))

    return Converter(names, spelling, Direction.UNPACK, send, send_any)  # packed already


_CONNECT = ir.Given(
    "connect",
    ir.Function,
    f"""
def connect(
    stub: Attachable,
    worker: str,
    handle: int,
    timeout: float,
    devices: List[torch.device],
    lease: Optional[RRef[int]],
) -> None:
    stub.{ATTACH}(Connected(worker, handle, timeout, devices, lease))
""",
)


# -- the stub unit


def lower_stub(interface: Interface, spelling: Spelling) -> ir.Unit:
    local, deferred, functions = [], [], []
    for method in interface.methods:
        returns = spelling.declared(method.returns)
        parameters = _declared(method, spelling)
        local.append(declare(method.name, parameters, returns))
        deferred.append(declare(f"{method.name}_async", parameters, future(returns)))
        functions += _lower_send_and_receive(method, spelling)
    return unit(
        interface,
        "stub",
        f"{interface.qualified_name} as TorchScript knows it, and the stub that implements it.",
        ir.Interface("Local", interface.qualified_name, tuple(local), of_modules=True),
        ir.Interface("Remote", f"{scope_of(interface)}.stub.Remote", (*local, *deferred), of_modules=True),
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
        body.append(ir.Return(ir.Call(ir.Attribute(ir.Name(wire), method.name), packed)))
        returns = future(spelling.wire(method.returns))
        functions.append(
            ir.Function(spelling.send[method.name], (ir.Parameter(wire, "Wire"), *parameters), returns, tuple(body))
        )
    if plan.result != KEEP:
        names = spelling.names()
        pending, received = ir.Name(names.fresh("pending")), ir.Name(names.fresh("received"))
        arriving = ir.Parameter(pending.id, future(spelling.wire(method.returns)))
        returns = spelling.declared(method.returns)
        body = [ir.Assign((received.id,), ir.Call(ir.Attribute(pending, "wait")))]
        result = Converter(names, spelling, Direction.UNPACK).convert(
            received, method.returns, plan.result, "out", body
        )
        receive = spelling.receive[method.name]
        functions.append(ir.Function(receive, (arriving,), returns, (*body, ir.Return(result))))
        # A task of TorchScript's own: it holds no thread while it waits.
        fork = ir.Attribute(ir.Attribute(ir.Name("torch"), "jit"), "fork")
        forked = ir.Return(ir.Call(fork, (ir.Name(receive), pending)))
        functions.append(ir.Function(spelling.defer[method.name], (arriving,), future(returns), (forked,)))
    return functions


def _lower_stub_module(interface: Interface, spelling: Spelling) -> ir.Module:
    self = ir.Name("self")
    disconnected = ir.AssignAttribute(self, WIRE, ir.Call(ir.Name("Disconnected")))
    parent = ir.Do(ir.Call(ir.Attribute(ir.Call(ir.Name("super")), "__init__")))
    methods = [ir.Function("__init__", (SELF,), None, (parent, disconnected))]
    for method in interface.methods:
        methods += _lower_stub_methods(method, spelling)
        if any(map(crosses_otherwise, method.types)):
            parameters = crossing(method, spelling)
            call = ir.Call(
                ir.Attribute(ir.Attribute(self, WIRE), method.name),
                tuple(ir.Name(parameter.name) for parameter in parameters),
            )
            returns = future(spelling.wire(method.returns))
            methods.append(ir.Function(packed_name(method.name), (SELF, *parameters), returns, (ir.Return(call),)))
    attach = (SELF, ir.Parameter("wire", "Wire"))
    methods.append(ir.Function(ATTACH, attach, "None", (ir.AssignAttribute(self, WIRE, ir.Name("wire")),)))
    return ir.Module("Stub", tuple(methods), fields=((WIRE, "Wire"),))


def _lower_stub_methods(method: Method, spelling: Spelling) -> tuple[ir.Function, ir.Function]:
    plan = plan_stub(method)
    own = Names(argument.name for argument in method.arguments).fresh("self")
    wire = ir.Attribute(ir.Name(own), WIRE)
    arguments = tuple(ir.Name(argument.name) for argument in method.arguments)
    if any(walk != KEEP for walk in plan.arguments):
        pending = ir.Call(ir.Name(spelling.send[method.name]), (wire, *arguments))
    else:
        pending = ir.Call(ir.Attribute(wire, method.name), arguments)
    awaited, deferred = ir.Call(ir.Attribute(pending, "wait")), pending
    if plan.result != KEEP:
        receive = ir.Name(spelling.receive[method.name])
        awaited = ir.Call(receive, (pending,))
        deferred = ir.Call(ir.Name(spelling.defer[method.name]), (pending,))
    parameters = (ir.Parameter(own), *_declared(method, spelling))
    returns = spelling.declared(method.returns)
    return (
        ir.Function(method.name, parameters, returns, (ir.Return(awaited),)),
        ir.Function(f"{method.name}_async", parameters, future(returns), (ir.Return(deferred),)),
    )


def _declared(method: Method, spelling: Spelling) -> tuple[ir.Parameter, ...]:
    """The arguments as the user declared them."""

    def default(argument: Argument) -> Value | Required:
        return REQUIRED if isinstance(argument.default, Required) else spelling.default(argument.default)

    return tuple(
        ir.Parameter(argument.name, spelling.declared(argument.type), default(argument), argument.keyword_only)
        for argument in method.arguments
    )
