"""Lowers calls whose results stay where the module is, for Python. The caller gets an RRef of the result.

They are a unit of their own, so that only an interface that uses them pays for them. The messages carry the same
endpoints as other calls.
"""

from __future__ import annotations

from typing import Final

from ..read.model import Interface, Method
from . import ir
from .convert import Direction
from .link import FLAGS
from .plan import plan_tensors, wire_type
from .prepare import preparing
from .source_names import SourceNames, endpoint
from .units import begin_message, crossing, declare, unit

# torch would forget a call whose answer comes late, and not tell the owner, which then keeps the result for ever.
# Whoever fetches the result does wait with a limit.
_NO_LIMIT: Final = ir.Literal(0.0)


def lower_references(interface: Interface, methods: list[Method], source_names: SourceNames) -> ir.Unit:
    """Lowers the unit of the functions that are called `remote_name(method)`."""
    flags = declare(FLAGS, (), "int")
    return unit(
        interface,
        "references",
        "Calls whose results stay where the module is.",
        ir.Interface("Flagging", (flags,), of_modules=True),
        *(_lower_remote(interface, method, source_names) for method in methods),
    )


def remote_name(method: Method) -> str:
    """Returns the name of a method's function."""
    return f"{method.name}_remote"


def _lower_remote(interface: Interface, method: Method, source_names: SourceNames) -> ir.Function:
    """Lowers the function that checks packed arguments, sends a call, and returns an RRef of the result."""
    names = source_names.scope([endpoint(method)])
    stub, worker, handle, devices, message = ir.variables(names, "stub", "worker", "handle", "devices", "message")
    kinds = {stub: "Flagging", worker: "str", handle: "int", devices: "List[torch.device]"}
    parameters = crossing(method, source_names, names)
    body: list[ir.Statement] = [begin_message(message)]
    values: list[ir.Expression] = [handle]
    for parameter, argument, plan in zip(parameters, method.arguments, plan_tensors(method), strict=True):
        where = ir.Literal(f"{interface.name}.{remote_name(method)}.{argument.name}")
        converter = preparing(Direction.UNPACK, method, names, source_names, devices, where, message)
        kind = wire_type(argument.type)
        values.append(converter.convert(ir.Name(parameter.name), kind, plan, parameter.name, body))
    flags: ir.Expression = ir.called(stub, FLAGS)  # after the tensors: a refused call takes no ticket
    if method.takes_tensors:
        flags = ir.call("with_sparse", flags, message)
    sent = (worker, ir.Name(endpoint(method)), ir.TupleOf((*values, flags)), ir.Empty("{}"), _NO_LIMIT)
    body.append(ir.Return(ir.called(ir.Name("rpc"), "remote", *sent)))
    own = tuple(ir.Parameter(name.id, kind) for name, kind in kinds.items())
    returns = f"RRef[{source_names.wire(method.returns)}]"
    return ir.Function(remote_name(method), (*own, *parameters), returns, tuple(body))
