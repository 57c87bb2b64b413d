"""Calls through an RRef, for instantiator.py: torch's form of a remote module.

The caller has a `module_rref`, and the module's `device`; the RRef travels with every call. One `_remote_<method>`
serves modules in every placement, and finds out in the call which it is. (A stub has settled that when it is made.)
"""

from __future__ import annotations

from dataclasses import replace

from ..read.model import RESERVED_PREFIX, Interface, Method
from . import ir
from .names import Names
from .owner import lower_run, sending
from .plan import Placement, plan_type
from .scope import endpoint, future, referring_scope, renamed
from .spell import Spelling
from .stub import lower_pair, lower_receive


def lower_referring(interface: Interface, interface_name: str, moves: bool, spelling: Spelling) -> ir.Unit:
    """What serves modules of an interface on their owner, and the functions that become a caller's methods.

    Args:
        interface_name: what TorchScript calls the interface, which is `Local` here.
        moves: whether tensors move to a module on an accelerator, and back.
    """
    definitions: list[ir.Definition] = []
    for method in interface.methods:
        placements = tuple(Placement) if moves else (Placement.HOST,)
        definitions += [_lower_placed(interface, placement, method, spelling) for placement in placements]
        definitions += [_lower_remote(method, moves, spelling), _lower_send(interface, method, spelling)]
        definitions += [*lower_receive(method, spelling), *_lower_methods(method, spelling)]
    return ir.Unit(
        referring_scope(interface, interface_name, moves),
        f"<torchremote {interface.name}#{interface.digest} referring{'' if moves else ', moving nothing'}>",
        f"Calls through an RRef to a module.\n\n{interface.declaration}",
        tuple(definitions),
    )


def method_name(name: str) -> str:
    """What the function is called that becomes the method `name`: it hides nothing that the functions refer to."""
    return f"{RESERVED_PREFIX}_{name}"


def _placed(placement: Placement, method: Method) -> str:
    return f"{placement.value}_{method.name}"


def _referring(names: Names) -> tuple[ir.Parameter, ...]:
    """What torch's functions begin with."""
    first = (("module_rref", "RRef[Local]"), ("device", "str"), ("is_device_map_set", "bool"))
    return tuple(ir.Parameter(names.fresh(name), type) for name, type in first)


def _lower_placed(interface: Interface, placement: Placement, method: Method, spelling: Spelling) -> ir.Function:
    names = spelling.names()
    module, device = names.fresh("module"), names.fresh("device")
    parameters = renamed(method, names, [spelling.wire(argument.type) for argument in method.arguments])
    # `Hosted` takes every argument by position. But it is an interface of modules, and `Local` may be one of classes.
    run, result = lower_run(interface, placement, method, parameters, module, device, names, spelling)
    by_position = not any(argument.keyword_only for argument in method.arguments)
    return ir.Function(
        _placed(placement, method),
        (ir.Parameter(module, "Local" if by_position else "Hosted"), ir.Parameter(device, "torch.device"), *parameters),
        spelling.wire(method.returns),
        (*run, ir.Return(result)),
    )


def _lower_remote(method: Method, moves: bool, spelling: Spelling) -> ir.Function:
    """What runs on the owner."""
    names = spelling.names([_placed(placement, method) for placement in Placement])
    rref, device, is_mapped = referring = _referring(names)
    module, there = ir.Name(names.fresh("module")), ir.Name(names.fresh("there"))
    parameters = renamed(method, names, [spelling.wire(argument.type) for argument in method.arguments])
    arguments = (module, there, *(ir.Name(parameter.name) for parameter in parameters))

    def run(placement: Placement) -> ir.Return:
        return ir.Return(ir.Call(ir.Name(_placed(placement, method)), arguments))

    body: list[ir.Statement] = [
        ir.Assign((module.id,), ir.Call(ir.Attribute(ir.Name(rref.name), "local_value"))),
        ir.Assign((there.id,), ir.Call(ir.Attribute(ir.Name("torch"), "device"), (ir.Name(device.name),))),
    ]
    if moves:
        on_cpu = ir.Equal(ir.Attribute(there, "type"), ir.Literal("cpu"))
        body.append(ir.If(on_cpu, (run(Placement.HOST),)))
        body.append(ir.If(ir.Name(is_mapped.name), (run(Placement.MAPPED),)))
        body.append(run(Placement.STAGED))
    else:
        body.append(run(Placement.HOST))
    return ir.Function(endpoint(method), (*referring, *parameters), spelling.wire(method.returns), tuple(body))


def _lower_send(interface: Interface, method: Method, spelling: Spelling) -> ir.Function:
    """What packs and looks at the arguments, and calls."""
    names = spelling.names([endpoint(method)])
    referring = _referring(names)
    parameters = renamed(method, names, [spelling.declared(argument.type) for argument in method.arguments])
    body: list[ir.Statement] = []
    values: list[ir.Expression] = [ir.Name(parameter.name) for parameter in referring]
    for parameter, argument in zip(parameters, method.arguments, strict=True):
        walk = plan_type(argument.type, tensors=True, translates=True)
        where = ir.Literal(f"{interface.name}.{method.name}.{argument.name}")
        converter = sending(names, spelling, where, to_cpu=False)
        values.append(converter.convert(ir.Name(parameter.name), argument.type, walk, parameter.name, body))
    owner = ir.Call(ir.Attribute(ir.Name(referring[0].name), "owner"))
    call = ir.Call(
        ir.Attribute(ir.Name("rpc"), "rpc_async"), (owner, ir.Name(endpoint(method)), ir.TupleOf(tuple(values)))
    )
    returns = future(spelling.wire(method.returns))
    return ir.Function(spelling.send[method.name], (*referring, *parameters), returns, (*body, ir.Return(call)))


def _lower_methods(method: Method, spelling: Spelling) -> list[ir.Function]:
    """The functions that become methods, of whoever has the attributes that torch's remote modules have."""
    self = Names(argument.name for argument in method.arguments).fresh("self")
    referring = tuple(ir.Attribute(ir.Name(self), parameter.name) for parameter in _referring(Names()))
    arguments = tuple(ir.Name(argument.name) for argument in method.arguments)
    pending = ir.Call(ir.Name(spelling.send[method.name]), (*referring, *arguments))
    return [
        replace(function, name=method_name(function.name), scripted=False)
        for function in lower_pair(method, ir.Parameter(self), pending, spelling)
    ]
