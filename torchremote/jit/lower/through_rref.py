"""Lowers calls through an RRef, torch's form of a remote module, for dropin/instantiator.py.

The caller has a `module_rref` and the module's `device`, and sends the RRef with every call. These functions have
torch's parameters, so a call does not tell the owner that the caller's grad mode is off.
"""

from __future__ import annotations

from dataclasses import replace

from ..read.model import RESERVED_PREFIX, Interface, Method
from . import ir
from .convert import Direction
from .hosting import begin_run, finish_run, lower_hosted, lower_run
from .names import Names
from .plan import plan_type
from .prepare import preparing
from .source_names import SourceNames, endpoint
from .stub import lower_pair, lower_receiving
from .units import begin_message, future, renamed, through_rref_scope


def lower_through_rref(interface: Interface, interface_name: str, moves: bool, source_names: SourceNames) -> ir.Unit:
    """Lowers the unit of the functions that run on the owner, and of those that become a caller's methods.

    Args:
        interface_name: the interface's name in TorchScript. In this unit, it is `Local`.
        moves: whether tensors move to a module on an accelerator, and back.
    """
    # `Local` may be an interface of classes, and ModuleInterface is of modules alone. But calls pass all arguments by
    # position, which `Local` refuses for keyword-only ones.
    by_position = not any(argument.keyword_only for method in interface.methods for argument in method.arguments)
    definitions: list[ir.Definition] = [lower_hosted("Local" if by_position else "ModuleInterface")]
    definitions += lower_receiving(interface.methods, source_names)
    for method in interface.methods:
        definitions += [lower_run(interface, method, source_names)]
        definitions += [_lower_remote(method, moves, source_names)]
        definitions += [_lower_send(interface, method, source_names)]
        definitions += _lower_methods(method, source_names)
    return ir.Unit(
        through_rref_scope(interface, interface_name, moves),
        f"<torchremote {interface.name}#{interface.digest} through_rref{'' if moves else ', moving nothing'}>",
        f"Calls through an RRef to a module.\n\n{interface.declaration}",
        tuple(definitions),
    )


def method_name(name: str) -> str:
    """Returns the name of the function that becomes the method `name`. It hides no name that functions use."""
    return f"{RESERVED_PREFIX}_{name}"


def _torchs_parameters(names: Names) -> tuple[ir.Parameter, ...]:
    """Returns the parameters with which torch's functions begin."""
    first = (("module_rref", "RRef[Local]"), ("device", "str"), ("is_device_map_set", "bool"))
    return tuple(ir.Parameter(names.fresh(name), kind) for name, kind in first)


def _lower_remote(method: Method, moves: bool, source_names: SourceNames) -> ir.Function:
    """Lowers what runs on the owner."""
    names = source_names.scope()
    rref, device, is_mapped = torchs = _torchs_parameters(names)
    module, there, flags, on_device = ir.variables(names, "module", "there", "flags", "hosted")
    parameters = renamed(method, names, source_names.wire)
    device_of = ir.called(ir.Name("torch"), "device", ir.Name(device.name))
    on_accelerator = ir.Operation("!=", ir.Attribute(there, "type"), ir.Literal("cpu"))
    hosted = ir.call("Hosted", module, there, on_accelerator if moves else ir.Literal(False))
    values = ir.named(parameters)
    begun, run = begin_run(method, (on_device, flags), values, names, source_names)
    body = (
        ir.assign(module, ir.called(ir.Name(rref.name), "local_value")),
        ir.assign(there, device_of),
        ir.assign(flags, ir.call("flags_of_torchs_call", ir.Name(is_mapped.name))),
        ir.assign(on_device, hosted),
        *begun,
        *finish_run(method, run, on_device, flags, names),
    )
    return ir.Function(endpoint(method), (*torchs, *parameters), source_names.wire(method.returns), body)


def _lower_send(interface: Interface, method: Method, source_names: SourceNames) -> ir.Function:
    """Lowers the function that packs and checks the arguments, and sends the call."""
    names = source_names.scope([endpoint(method)])
    torchs = _torchs_parameters(names)
    parameters = renamed(method, names, source_names.declared)
    message = ir.Name(names.fresh("message"))
    body: list[ir.Statement] = []
    if method.takes_tensors:
        body.append(begin_message(message))
    values: list[ir.Expression] = [*ir.named(torchs)]
    for parameter, argument in zip(parameters, method.arguments, strict=True):
        plan = plan_type(argument.type, tensors=True, translates=True)
        where = ir.Literal(f"{interface.name}.{method.name}.{argument.name}")
        # Tensors may be on any device: torch itself refuses those on a device that is not mapped.
        anywhere = ir.Literal(None)
        converter = preparing(Direction.PACK, method, names, source_names, anywhere, where, message)
        values.append(converter.convert(ir.Name(parameter.name), argument.type, plan, parameter.name, body))
    owner = ir.called(ir.Name(torchs[0].name), "owner")
    call = ir.called(ir.Name("rpc"), "rpc_async", owner, ir.Name(endpoint(method)), ir.TupleOf(tuple(values)))
    returns = future(source_names.wire(method.returns))
    return ir.Function(source_names.send[method.name], (*torchs, *parameters), returns, (*body, ir.Return(call)))


def _lower_methods(method: Method, source_names: SourceNames) -> list[ir.Function]:
    """Lowers the functions that become methods of an object with the attributes of torch's remote modules."""
    self = Names(argument.name for argument in method.arguments).fresh("self")
    torchs = tuple(ir.Attribute(ir.Name(self), parameter.name) for parameter in _torchs_parameters(Names()))
    arguments = tuple(ir.Name(argument.name) for argument in method.arguments)
    pending = ir.call(source_names.send[method.name], *torchs, *arguments)
    return [
        replace(function, name=method_name(function.name), scripted=False)
        for function in lower_pair(method, ir.Parameter(self), pending, source_names)
    ]
