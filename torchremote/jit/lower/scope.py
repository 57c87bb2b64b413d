"""What the units share: their names in TorchScript, and the parameters of methods."""

from __future__ import annotations

import hashlib

from ..read.model import Interface, Method
from . import ir
from .names import Names
from .plan import Placement
from .spell import Spelling

SELF = ir.Parameter("self")


def scope_of(interface: Interface) -> str:
    """The dotted name, in TorchScript, of everything that is generated for `interface`."""
    return f"__torch__.torchremote.{interface.name}_{interface.digest}"


def endpoint_name(interface: Interface, placement: Placement, method: Method) -> str:
    """The name that a call of `method` carries over RPC, the same on every worker."""
    return f"{scope_of(interface)}.{placement.value}.{endpoint(method)}"


def referring_scope(interface: Interface, interface_name: str, moves: bool) -> str:
    """The dotted name, in TorchScript, of what calls through an RRef: see referring.py."""
    # What of it the canonical text does not say.
    key = f"{interface_name} {moves}\n{interface.declaration}"
    return f"{scope_of(interface)}.referring_{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}"


def endpoint(method: Method) -> str:
    return f"_remote_{method.name}"


def unit(interface: Interface, part: str, comment: str, *definitions: ir.Definition) -> ir.Unit:
    title = f"<torchremote {interface.name}#{interface.digest} {part}>"
    return ir.Unit(f"{scope_of(interface)}.{part}", title, f"{comment}\n\n{interface.text}", definitions)


def future(type: str) -> str:
    return f"Future[{type}]"


def declare(name: str, parameters: tuple[ir.Parameter, ...], returns: str) -> ir.Function:
    """A method of an interface: nothing but a signature."""
    own = Names(parameter.name for parameter in parameters).fresh("self")
    return ir.Function(name, (ir.Parameter(own), *parameters), returns, (ir.Pass(),))


def crossing(method: Method, spelling: Spelling) -> tuple[ir.Parameter, ...]:
    """The arguments as they cross, under names that are free in a method's scope: nobody calls these by name.

    TorchScript compares names, so an interface and the classes that implement it share them.
    """
    names = spelling.names(["self"])
    parameters = renamed(method, names, [spelling.wire(argument.type) for argument in method.arguments])
    # Which batch it is, for its caller to ask how far it came: see table.py, Note [Which call failed].
    return parameters if method.each is None else (*parameters, ir.Parameter(names.fresh("mark"), "int"))


def renamed(method: Method, names: Names, types: list[str]) -> tuple[ir.Parameter, ...]:
    """The arguments as `types`, under names that are free in the scope of `names`."""
    return tuple(
        ir.Parameter(names.fresh(argument.name), type) for argument, type in zip(method.arguments, types, strict=True)
    )
