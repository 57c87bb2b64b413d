"""The wire unit: what a stub calls through, and what stands there while it is not connected.

Note [The wire]
    A stub does not call rpc_async itself. torch.jit.save would write that call in a form that cannot be loaded
    again, so it stands in a class behind an interface: what is saved is the interface, and never the live object.
    `Disconnected` is the twin that a stub holds until it is attached to a module; then, `Connected` (connected.py). A
    wire knows nothing of the user's
    classes: values come to it packed, and so an archive can be connected where those classes are not.

    Each knows the stub's *address*: the interface's qualified name and canonical text, worker, served name ("" for
    an unnamed module) and timeout. An archive of a stub holds no more than that.
"""

from __future__ import annotations

from typing import Final

from ..read.model import RESERVED_PREFIX, Interface
from . import ir
from .scope import SELF, crossing, declare, future, scope_of, unit
from .spell import Spelling

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


def lower_wire(interface: Interface, spelling: Spelling) -> ir.Unit:
    scope = f"{scope_of(interface)}.wire"
    wire = (
        *(
            declare(method.name, crossing(method, spelling), future(spelling.wire(method.returns)))
            for method in interface.messages
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
    methods = [ir.Function("__init__", (SELF, ADDRESS_PARAMETER), None, (KEEP_ADDRESS,)), RETURN_ADDRESS]
    for method in interface.messages:
        where = ir.Literal(f"{interface.name}.{method.name}")
        refusal = ir.Raise(ir.Call(ir.Name("disconnected"), (where, _KEPT_ADDRESS)))
        parameters = (SELF, *crossing(method, spelling))
        methods.append(ir.Function(method.name, parameters, future(spelling.wire(method.returns)), (refusal,)))
    return ir.Class("Disconnected", tuple(methods))


_KEPT_ADDRESS: Final = ir.Attribute(ir.Name("self"), field("address"))
ADDRESS_PARAMETER: Final = ir.Parameter("address", ADDRESS_TYPE)
KEEP_ADDRESS: Final = ir.AssignAttribute(ir.Name("self"), field("address"), ir.Name("address"), ADDRESS_TYPE)
RETURN_ADDRESS: Final = ir.Function(ADDRESS, (SELF,), ADDRESS_TYPE, (ir.Return(_KEPT_ADDRESS),))
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
