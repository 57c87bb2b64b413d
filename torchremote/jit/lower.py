"""Interface and plans -> the units of source to emit. The one place where placements and defaults are settled.

Note [Units]
    An interface makes five units, each a namespace of its own in TorchScript.

    * The table unit: what an owner keeps modules in, and what a caller calls through (the wires).
    * A unit a placement: its endpoints, the functions that run on the owner, and the wire that calls them.
    * The stub unit: the interface under the class's own name, and the stub that implements it.

    The first four depend on the canonical text alone, so every worker makes them alike, and classes that differ only
    in their defaults share them. The stub unit is the caller's own.

Note [The wire]
    A stub does not call rpc_async itself. torch.jit.save would write that call in a form that cannot be loaded
    again, so it stands in a class behind an interface: what is saved is the interface, and never the live object.
    `Disconnected` is the twin that a stub holds until it is attached to a module.
"""

from __future__ import annotations

from . import ir, table
from .model import Interface, Method
from .move import Mover
from .names import RESERVED_PREFIX, Names
from .plan import KEEP, MethodPlan, Placement

WIRE = f"{RESERVED_PREFIX}_wire"
ATTACH = f"{RESERVED_PREFIX}_attach"

_SELF = ir.Parameter("self")
_COMMENTS = {
    Placement.HOST: "Modules on the CPU: nothing moves.",
    Placement.STAGED: "Modules on an accelerator, no device map: tensors move in, and back to the CPU.",
    Placement.MAPPED: "Modules on an accelerator, with a device map: tensors move in, and stay.",
}


def scope_of(interface: Interface) -> str:
    """The dotted name, in TorchScript, of everything that is generated for `interface`."""
    return f"__torch__.torchremote.{interface.name}_{interface.digest}"


def endpoint_name(interface: Interface, placement: Placement, method: Method) -> str:
    """The name that a call of `method` carries over RPC, the same on every worker."""
    return f"{scope_of(interface)}.{placement.value}.{_endpoint(method)}"


def _unit(interface: Interface, part: str, comment: str, *definitions: ir.Definition) -> ir.Unit:
    title = f"<torchremote {interface.name}#{interface.digest} {part}>"
    return ir.Unit(f"{scope_of(interface)}.{part}", title, f"{comment}\n\n{interface.text}", definitions)


# -- the table unit


def lower_table(interface: Interface) -> ir.Unit:
    scope = f"{scope_of(interface)}.table"
    hosted = tuple(_declare(method.name, _positional(method), str(method.returns)) for method in interface.methods)
    wire = tuple(_declare(method.name, _crossing(method), _future(method)) for method in interface.methods)
    attach = _declare(ATTACH, (ir.Parameter("wire", "Wire"),), "None")
    return _unit(
        interface,
        "table",
        "What an owner keeps its modules in, and what a stub calls through.",
        ir.Interface("Hosted", f"{scope}.Hosted", hosted, of_modules=True),
        *table.DEFINITIONS,
        ir.Interface("Wire", f"{scope}.Wire", wire, of_modules=False),
        _lower_disconnected(interface),
        ir.Interface("Attachable", f"{scope}.Attachable", (attach,), of_modules=True),
    )


def _lower_disconnected(interface: Interface) -> ir.Class:
    methods = [ir.Function("__init__", (_SELF,), None, (ir.Pass(),))]
    for method in interface.methods:
        refusal = ir.Raise(f"torchremote: {interface.name}.{method.name}: this stub is not connected")
        methods.append(ir.Function(method.name, (_SELF, *_crossing(method)), _future(method), (refusal,)))
    return ir.Class("Disconnected", tuple(methods))


# -- a placement's unit


def lower_placement(interface: Interface, placement: Placement, plans: dict[str, MethodPlan]) -> ir.Unit:
    """The endpoints of `placement`, which move what `plans` say a method, and the wire that calls them."""
    endpoints = [_lower_endpoint(interface, placement, method, plans[method.name]) for method in interface.methods]
    return _unit(interface, placement.value, _COMMENTS[placement], *endpoints, _lower_connected(interface), _CONNECT)


def _lower_endpoint(interface: Interface, placement: Placement, method: Method, plan: MethodPlan) -> ir.Function:
    names = Names()
    table_name, handle = names.fresh("table"), names.fresh("handle")
    parameters = _renamed(method, names)
    module, device = names.fresh("module"), names.fresh("device")

    def to_device(tensor: ir.Expression) -> ir.Expression:
        return ir.Call(ir.Attribute(tensor, "to"), (ir.Name(device),))

    def to_cpu(tensor: ir.Expression) -> ir.Expression:
        return ir.Call(ir.Attribute(tensor, "cpu"))

    found = ir.Call(ir.Name("find"), (ir.Name(table_name), ir.Name(handle)))
    body: list[ir.Statement] = [ir.Assign((module, device), found)]
    inward = Mover(names, to_device)
    arguments = tuple(
        inward.move(ir.Name(parameter.name), argument.type, walk, parameter.name, body)
        for parameter, argument, walk in zip(parameters, method.arguments, plan.arguments, strict=True)
    )
    result: ir.Expression = ir.Call(ir.Attribute(ir.Name(module), method.name), arguments)
    if plan.result != KEEP:
        name = names.fresh("result")
        body.append(ir.Assign((name,), result))
        result = Mover(names, to_cpu).move(ir.Name(name), method.returns, plan.result, "out", body)
    body.append(ir.Return(result))
    return ir.Function(
        _endpoint(method),
        (ir.Parameter(table_name, "Table"), ir.Parameter(handle, "int"), *parameters),
        str(method.returns),
        tuple(body),
        endpoint=endpoint_name(interface, placement, method),
    )


def _lower_connected(interface: Interface) -> ir.Class:
    self = ir.Name("self")
    # A class has one namespace for fields and methods, and the methods' names are the user's.
    worker, handle, timeout = (f"{RESERVED_PREFIX}_{field}" for field in ("worker", "handle", "timeout"))
    fields = {
        worker: "str",
        handle: "int",
        timeout: "float",
        # The type is nominal: it is an RRef to a Python object, which TorchScript cannot name and never opens.
        f"{RESERVED_PREFIX}_lease": "Optional[RRef[int]]",
    }
    methods = [
        ir.Function(
            "__init__",
            (_SELF, *(ir.Parameter(name, type) for name, type in fields.items())),
            None,
            tuple(ir.AssignAttribute(self, name, ir.Name(name), type) for name, type in fields.items()),
        )
    ]
    for method in interface.methods:
        parameters = _crossing(method)
        values: tuple[ir.Expression, ...] = (
            ir.Attribute(self, handle),
            *(ir.Name(parameter.name) for parameter in parameters),
        )
        call = ir.Call(
            ir.Attribute(ir.Name("rpc"), "rpc_async"),
            (
                ir.Attribute(self, worker),
                ir.Name(_endpoint(method)),
                ir.TupleOf(values),
                ir.Empty("{}"),
                ir.Attribute(self, timeout),
            ),
        )
        methods.append(ir.Function(method.name, (_SELF, *parameters), _future(method), (ir.Return(call),)))
    return ir.Class("Connected", tuple(methods))


_CONNECT = ir.Given(
    "connect",
    ir.Function,
    f"""
def connect(stub: Attachable, worker: str, handle: int, timeout: float, lease: Optional[RRef[int]]) -> None:
    stub.{ATTACH}(Connected(worker, handle, timeout, lease))
""",
)


# -- the stub unit


def lower_stub(interface: Interface) -> ir.Unit:
    local = tuple(_declare(method.name, _declared(method), str(method.returns)) for method in interface.methods)
    deferred = tuple(
        _declare(f"{method.name}_async", _declared(method), _future(method)) for method in interface.methods
    )
    return _unit(
        interface,
        "stub",
        f"{interface.qualified_name} as TorchScript knows it, and the stub that implements it.",
        ir.Interface("Local", interface.qualified_name, local, of_modules=True),
        ir.Interface("Remote", f"{scope_of(interface)}.stub.Remote", (*local, *deferred), of_modules=True),
        _lower_stub_module(interface),
    )


def _lower_stub_module(interface: Interface) -> ir.Module:
    self = ir.Name("self")
    disconnected = ir.AssignAttribute(self, WIRE, ir.Call(ir.Name("Disconnected")))
    parent = ir.Do(ir.Call(ir.Attribute(ir.Call(ir.Name("super")), "__init__")))
    methods = [ir.Function("__init__", (_SELF,), None, (parent, disconnected))]
    for method in interface.methods:
        own = Names(argument.name for argument in method.arguments).fresh("self")
        call = ir.Call(
            ir.Attribute(ir.Attribute(ir.Name(own), WIRE), method.name),
            tuple(ir.Name(argument.name) for argument in method.arguments),
        )
        parameters = (ir.Parameter(own), *_declared(method))
        awaited = ir.Call(ir.Attribute(call, "wait"))
        methods += [
            ir.Function(method.name, parameters, str(method.returns), (ir.Return(awaited),)),
            ir.Function(f"{method.name}_async", parameters, _future(method), (ir.Return(call),)),
        ]
    attach = (_SELF, ir.Parameter("wire", "Wire"))
    methods.append(ir.Function(ATTACH, attach, "None", (ir.AssignAttribute(self, WIRE, ir.Name("wire")),)))
    return ir.Module("Stub", tuple(methods), fields=((WIRE, "Wire"),))


# -- what they share


def _endpoint(method: Method) -> str:
    return f"_remote_{method.name}"


def _future(method: Method) -> str:
    return f"Future[{method.returns}]"


def _declare(name: str, parameters: tuple[ir.Parameter, ...], returns: str) -> ir.Function:
    own = Names(parameter.name for parameter in parameters).fresh("self")
    return ir.Function(name, (ir.Parameter(own), *parameters), returns, (ir.Pass(),))


def _positional(method: Method) -> tuple[ir.Parameter, ...]:
    """The arguments as they cross: in order, under their own names, nothing optional."""
    return tuple(ir.Parameter(argument.name, str(argument.type)) for argument in method.arguments)


def _renamed(method: Method, names: Names) -> tuple[ir.Parameter, ...]:
    """The arguments as they cross, under names that are free in a function's scope: nobody calls these by name."""
    return tuple(ir.Parameter(names.fresh(argument.name), str(argument.type)) for argument in method.arguments)


def _crossing(method: Method) -> tuple[ir.Parameter, ...]:
    """The arguments of a wire's method: TorchScript compares names, so an interface and its classes share them."""
    return _renamed(method, Names(["self"]))


def _declared(method: Method) -> tuple[ir.Parameter, ...]:
    """The arguments as the user declared them."""
    return tuple(
        ir.Parameter(argument.name, str(argument.type), argument.default, argument.keyword_only)
        for argument in method.arguments
    )
