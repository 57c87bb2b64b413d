"""What a stub calls through: the wire unit, and in each placement's unit the wire that calls its endpoints.

Note [The wire]
    A stub does not call rpc_async itself. torch.jit.save would write that call in a form that cannot be loaded
    again, so it stands in a class behind an interface: what is saved is the interface, and never the live object.
    `Disconnected` is the twin that a stub holds until it is attached to a module. A wire knows nothing of the user's
    classes: values come to it packed, and so an archive can be connected where those classes are not.

    Either knows the stub's *address*: the interface's qualified name and canonical text, worker, served name ("" for
    an unnamed module) and timeout. An archive of a stub holds no more than that.
"""

from __future__ import annotations

from typing import Final

from .. import ir
from ..convert import Converter, Direction
from ..model import Interface
from ..names import RESERVED_PREFIX, Names
from ..plan import plan_wire, wire_type
from ..spell import Spelling
from .scope import SELF, crossing, declare, endpoint, future, scope_of, unit

WIRE: Final = f"{RESERVED_PREFIX}_wire"
ATTACH: Final = f"{RESERVED_PREFIX}_attach"
ADDRESS: Final = f"{RESERVED_PREFIX}_address"
ADDRESS_TYPE: Final = "Tuple[str, str, str, str, float]"
WORKER, NAME, TIMEOUT = 2, 3, 4  # places in an address


def field(name: str) -> str:
    """What a wire's field is called: its methods' names are the user's, and a class has one namespace for both."""
    return f"{RESERVED_PREFIX}_its_{name}"


def packed_name(method: str) -> str:
    """The stub's method that takes arguments as they cross, and returns a Future of the result as it crossed."""
    return f"{RESERVED_PREFIX}_packed_{method}"


# -- the wire unit


def lower_wire(interface: Interface, spelling: Spelling) -> ir.Unit:
    scope = f"{scope_of(interface)}.wire"
    wire = (
        *(
            declare(method.name, crossing(method, spelling), future(spelling.wire(method.returns)))
            for method in interface.methods
        ),
        declare(ADDRESS, (), ADDRESS_TYPE),
    )
    attach = declare(ATTACH, (ir.Parameter("wire", "Wire"),), "None")
    return unit(
        interface,
        "wire",
        "What a stub calls through.",
        ir.Interface("Wire", f"{scope}.Wire", wire, of_modules=False),
        _DISCONNECTED,
        _lower_disconnected(interface, spelling),
        ir.Interface("Attachable", f"{scope}.Attachable", (attach,), of_modules=True),
        _PART,
    )


def _lower_disconnected(interface: Interface, spelling: Spelling) -> ir.Class:
    methods = [ir.Function("__init__", (SELF, _ADDRESS_PARAMETER), None, (_KEEP_ADDRESS,)), _RETURN_ADDRESS]
    for method in interface.methods:
        where = ir.Literal(f"{interface.name}.{method.name}")
        refusal = ir.Raise(ir.Call(ir.Name("disconnected"), (where, _KEPT_ADDRESS)))
        parameters = (SELF, *crossing(method, spelling))
        methods.append(ir.Function(method.name, parameters, future(spelling.wire(method.returns)), (refusal,)))
    return ir.Class("Disconnected", tuple(methods))


_KEPT_ADDRESS: Final = ir.Attribute(ir.Name("self"), field("address"))
_ADDRESS_PARAMETER: Final = ir.Parameter("address", ADDRESS_TYPE)
_KEEP_ADDRESS: Final = ir.AssignAttribute(ir.Name("self"), field("address"), ir.Name("address"), ADDRESS_TYPE)
_RETURN_ADDRESS: Final = ir.Function(ADDRESS, (SELF,), ADDRESS_TYPE, (ir.Return(_KEPT_ADDRESS),))
_DISCONNECTED: Final = ir.Given(
    "disconnected",
    ir.Function,
    f"""
def disconnected(method: str, address: {ADDRESS_TYPE}) -> str:
    stub = "this stub" if address[{NAME}] == "" else "the stub of '" + address[{NAME}] + "' on " + address[2]
    return "torchremote: " + method + ": " + stub + " is not connected; call torchremote.reconnect(model)" + (
        " (what was frozen cannot be connected: freeze only parts without stubs)"
    )
""",
)

_PART: Final = ir.Given(
    "part",
    ir.Function,
    f"""
def part(stub: Attachable, address: {ADDRESS_TYPE}) -> None:
    stub.{ATTACH}(Disconnected(address))
""",
)


# -- in a placement's unit


def lower_connected(interface: Interface, spelling: Spelling) -> tuple[ir.Definition, ...]:
    """The wire that calls the endpoints of the unit that it is in, and the function that attaches it to a stub."""
    self = ir.Name("self")
    given = {
        "handle": "int",
        "device": "str",  # where the module was when the stub was made
        # Those that the caller's device map to the worker knows.
        "devices": "List[torch.device]",
        # The type is nominal: it is an RRef to a Python object, which TorchScript cannot name and never opens.
        "lease": "Optional[RRef[int]]",
    }
    address = ir.Name(_ADDRESS_PARAMETER.name)
    init = (
        _KEEP_ADDRESS,
        # By themselves, for each call reads them.
        ir.AssignAttribute(self, field("worker"), ir.Item(address, WORKER), "str"),
        ir.AssignAttribute(self, field("timeout"), ir.Item(address, TIMEOUT), "float"),
        *(ir.AssignAttribute(self, field(name), ir.Name(name), type) for name, type in given.items()),
    )
    parameters = (SELF, _ADDRESS_PARAMETER, *(ir.Parameter(name, type) for name, type in given.items()))
    methods = [ir.Function("__init__", parameters, None, init), _RETURN_ADDRESS]
    for method in interface.methods:
        parameters = crossing(method, spelling)
        names = spelling.names(["self", *(parameter.name for parameter in parameters)])
        body: list[ir.Statement] = []
        values: list[ir.Expression] = [ir.Attribute(self, field("handle"))]
        for parameter, argument, plan in zip(parameters, method.arguments, plan_wire(method).arguments, strict=True):
            where = ir.Literal(f"{interface.name}.{method.name}.{argument.name}")
            checking = _checking(names, spelling, ir.Attribute(self, field("devices")), where)
            type = wire_type(argument.type)
            values.append(checking.convert(ir.Name(parameter.name), type, plan, parameter.name, body))
        call = ir.Call(
            ir.Attribute(ir.Name("rpc"), "rpc_async"),
            (
                ir.Attribute(self, field("worker")),
                ir.Name(endpoint(method)),
                ir.TupleOf(tuple(values)),
                ir.Empty("{}"),
                ir.Attribute(self, field("timeout")),
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
