"""In a placement's unit: the wire that calls the endpoints which are in it, too."""

from __future__ import annotations

from typing import Final

from ..read.model import Interface, Method
from ..read.types import ListType
from . import ir
from .convert import Converter, Direction
from .link import ADDRESS_PARAMETER, ADDRESS_TYPE, ATTACH, KEEP_ADDRESS, RETURN_ADDRESS, TIMEOUT, WORKER, field
from .names import Names
from .plan import plan_wire, wire_type
from .scope import SELF, crossing, endpoint, future
from .spell import Spelling


def lower_connected(interface: Interface, spelling: Spelling) -> tuple[ir.Definition, ...]:
    """The wire, and the function that attaches it to a stub."""
    self = ir.Name("self")
    given = {
        "handle": "int",
        "device": "str",  # where the module was when the stub was made
        # Those that the caller's device map to the worker knows.
        "devices": "List[torch.device]",
        # The type is nominal: it is an RRef to a Python object, which TorchScript cannot name and never opens.
        "lease": _LEASE,
    }
    address = ir.Name(ADDRESS_PARAMETER.name)
    init = (
        KEEP_ADDRESS,
        # By themselves, for each call reads them.
        ir.AssignAttribute(self, field("worker"), ir.Item(address, WORKER), "str"),
        ir.AssignAttribute(self, field("timeout"), ir.Item(address, TIMEOUT), "float"),
        *(ir.AssignAttribute(self, field(name), ir.Name(name), type) for name, type in given.items()),
    )
    parameters = (SELF, ADDRESS_PARAMETER, *(ir.Parameter(name, type) for name, type in given.items()))
    methods = [ir.Function("__init__", parameters, None, init), RETURN_ADDRESS]
    in_parts = []
    for method in interface.methods:
        methods += [_lower_call(interface, method, spelling), _lower_many(interface, method, spelling)]
        in_parts.append(_lower_in_parts(method.many, spelling))
    return _LOST, *in_parts, ir.Class("Connected", tuple(methods)), _CONNECT


def _its(name: str) -> ir.Expression:
    return ir.Attribute(ir.Name("self"), field(name))


def _call_rpc(
    method: Method, values: list[ir.Expression], worker: ir.Expression, timeout: ir.Expression
) -> ir.Expression:
    call = ir.Attribute(ir.Name("rpc"), "rpc_async")
    return ir.Call(call, (worker, ir.Name(endpoint(method)), ir.TupleOf(tuple(values)), ir.Empty("{}"), timeout))


def _lower_call(interface: Interface, method: Method, spelling: Spelling) -> ir.Function:
    parameters = crossing(method, spelling)
    names = spelling.names(["self", *(parameter.name for parameter in parameters)])
    body: list[ir.Statement] = []
    values: list[ir.Expression] = [_its("handle")]
    for parameter, argument, plan in zip(parameters, method.arguments, plan_wire(method).arguments, strict=True):
        checking = _checking(names, spelling, ir.Literal(f"{interface.name}.{method.name}.{argument.name}"))
        type = wire_type(argument.type)
        values.append(checking.convert(ir.Name(parameter.name), type, plan, parameter.name, body))
    body.append(ir.Return(_call_rpc(method, values, _its("worker"), _its("timeout"))))
    return ir.Function(method.name, (SELF, *parameters), future(spelling.wire(method.returns)), tuple(body))


def _checking(names: Names, spelling: Spelling, where: ir.Expression, sizes: ir.Name | None = None) -> Converter:
    """Looks at what is sent, and adds up in `sizes`, if that is given, how large it is: see tensors.py."""

    def send(tensor: ir.Expression) -> ir.Expression:
        if sizes is not None:
            return ir.Call(ir.Name("counted"), (tensor, _its("devices"), where, sizes))
        return ir.Call(ir.Name("sendable"), (tensor, _its("devices"), where))

    def send_any(value: ir.Expression) -> ir.Expression:
        return ir.Call(ir.Name("sendable_any"), (value, _its("devices"), where))

    return Converter(names, spelling, Direction.UNPACK, send, send_any)  # packed already


# -- many calls


def _lower_many(interface: Interface, method: Method, spelling: Spelling) -> ir.Function:
    """Sends many calls of `method` in one message, or, where they are too many for one, in several."""
    many = method.many
    calls, mark = parameters = crossing(many, spelling)
    names = spelling.names(["self", *(parameter.name for parameter in parameters)])
    parts, part, sizes, call = (ir.Name(names.fresh(name)) for name in ("parts", "part", "sizes", "call"))
    of_calls = many.arguments[0].type
    loop: list[ir.Statement] = [
        ir.If(
            ir.Call(ir.Name("begins_message"), (sizes,)),
            (
                ir.Assign((part.id,), ir.Empty("[]"), spelling.wire(of_calls)),
                ir.Do(ir.Call(ir.Attribute(parts, "append"), (part,))),
            ),
        ),
    ]
    values = []
    for index, (argument, plan) in enumerate(zip(method.arguments, plan_wire(method).arguments, strict=True)):
        where = ir.Literal(f"{interface.name}.{many.name}.{argument.name}")
        checking = _checking(names, spelling, where, sizes)
        values.append(checking.convert(ir.Item(call, index), wire_type(argument.type), plan, argument.name, loop))
    loop.append(ir.Do(ir.Call(ir.Attribute(ir.Item(parts, -1), "append"), (ir.TupleOf(tuple(values)),))))
    first = [_its("handle"), ir.Item(parts, 0), ir.Name(mark.name)]
    one = ir.Return(_call_rpc(many, first, _its("worker"), _its("timeout")))
    several = (
        ir.Name(spelling.in_parts[many.name]),
        *(_its("worker"), _its("timeout"), _its("handle"), _its("lease"), parts, ir.Name(mark.name)),
    )
    body = (
        ir.Assign((parts.id,), ir.Empty("[]"), spelling.wire(ListType(of_calls))),
        ir.Assign((sizes.id,), ir.ListOf((ir.Literal(0), ir.Literal(0)))),
        ir.For((call.id,), ir.Name(calls.name), tuple(loop)),
        ir.If(ir.Equal(ir.Call(ir.Name("len"), (parts,)), ir.Literal(1)), (one,)),
        ir.Return(ir.Call(_FORK, several)),
    )
    return ir.Function(many.name, (SELF, *parameters), future(spelling.wire(many.returns)), body)


_FORK: Final = ir.Attribute(ir.Attribute(ir.Name("torch"), "jit"), "fork")


def _lower_in_parts(many: Method, spelling: Spelling) -> ir.Function:
    """Sends one message after the other, so that calls keep their order. Forked: it holds no thread while it waits."""
    names = spelling.names()
    worker, timeout, handle, lease, parts, mark, part, results, pending = (
        ir.Name(names.fresh(name))
        for name in ("worker", "timeout", "handle", "lease", "parts", "mark", "part", "results", "pending")
    )
    done = ir.Call(ir.Name("len"), (results,))
    message = _call_rpc(many, [handle, part, ir.Concatenation(mark, done)], worker, timeout)
    loop = (
        ir.Assign((pending.id,), message),
        ir.Do(ir.Call(ir.Attribute(results, "extend"), (ir.Call(ir.Attribute(pending, "wait")),))),
    )
    of_parts = spelling.wire(ListType(many.arguments[0].type))
    types = {worker: "str", timeout: "float", handle: "int", lease: _LEASE, parts: of_parts, mark: "int"}
    returns = spelling.wire(many.returns)
    return ir.Function(
        spelling.in_parts[many.name],
        tuple(ir.Parameter(name.id, type) for name, type in types.items()),
        returns,
        (
            ir.Assign((results.id,), ir.Empty("[]"), returns),
            ir.For((part.id,), parts, loop),
            # Something that TorchScript does not leave out: the stub may be gone by now, and the module with it.
            ir.If(ir.Call(ir.Name("lost"), (lease,)), (ir.Raise(ir.Literal("torchremote: the module has no owner")),)),
            ir.Return(results),
        ),
    )


_LEASE: Final = "Optional[RRef[int]]"
_LOST: Final = ir.Given(
    "lost",
    ir.Function,
    """
def lost(lease: Optional[RRef[int]]) -> bool:
    return lease is not None and lease.owner_name() == ""
""",
)
_CONNECT: Final = ir.Given(
    "connect",
    ir.Function,
    f"""
def connect(
    stub: Attachable,
    address: {ADDRESS_TYPE},
    handle: int,
    device: str,
    devices: List[torch.device],
    lease: Optional[RRef[int]],
) -> None:
    stub.{ATTACH}(Connected(address, handle, device, devices, lease))
""",
)
