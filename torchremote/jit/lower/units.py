"""What the units share: their names in TorchScript, and the parameters of methods."""

from __future__ import annotations

import hashlib
from typing import Final

from ..._version import PROTOCOL
from ..read.model import Interface, Method
from ..runtime import definitions
from . import ir
from .names import Names
from .source_names import SourceNames

SELF: Final = ir.Parameter("self")
_ROOT: Final = "__torch__.torchremote"


def scope_of(interface: Interface) -> str:
    """Returns the dotted name, in TorchScript, of everything that is generated for `interface`.

    The protocol's number is part of it. So two releases that speak different ones never call each other's endpoints.
    """
    return f"{_ROOT}.protocol_{PROTOCOL}.{interface.name}_{interface.digest}"


def endpoint_name(interface: Interface, method: Method) -> str:
    """Returns the name that a call of `method` carries over RPC, the same on every worker."""
    return f"{scope_of(interface)}.endpoints.{endpoint(method)}"


def through_rref_scope(interface: Interface, interface_name: str, moves: bool) -> str:
    """Returns the dotted name, in TorchScript, of what calls through an RRef: see through_rref.py."""
    # Its text depends on more than the canonical text says.
    key = f"{interface_name} {moves}\n{interface.declaration}"
    return f"{scope_of(interface)}.through_rref_{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}"


def endpoint(method: Method) -> str:
    return f"_remote_{method.name}"


def unit(interface: Interface, part: str, comment: str, *parts: ir.Definition) -> ir.Unit:
    title = f"<torchremote {interface.name}#{interface.digest} {part}>"
    return ir.Unit(f"{scope_of(interface)}.{part}", title, f"{comment}\n\n{interface.text}", parts)


def lower_common() -> ir.Unit:
    """Returns the unit that every interface uses."""
    parts = (*definitions("tensors"), *definitions("batches"), *definitions("link"))
    return ir.Unit(f"{_ROOT}.common", "<torchremote common>", "The same for every interface.", parts)


def lower_any() -> ir.Unit:
    """Returns the unit that interfaces with values of type Any use."""
    comment = "Values of type Any; the same for every interface."
    return ir.Unit(f"{_ROOT}.any", "<torchremote any>", comment, definitions("any"))


def future(kind: str) -> str:
    return f"Future[{kind}]"


def declare(name: str, parameters: tuple[ir.Parameter, ...], returns: str) -> ir.Function:
    """Returns a method of an interface: nothing but a signature."""
    own = Names(parameter.name for parameter in parameters).fresh("self")
    return ir.Function(name, (ir.Parameter(own), *parameters), returns, (ir.Pass(),))


def crossing(method: Method, source_names: SourceNames) -> tuple[ir.Parameter, ...]:
    """Returns the arguments as they cross, under names that are free in a method's scope: nobody calls these by name.

    TorchScript compares names, so an interface and the classes that implement it share them.
    """
    names = source_names.scope(["self"])
    parameters = renamed(method, names, [source_names.wire(argument.type) for argument in method.arguments])
    # The batch's number, by which its caller asks how far it came: see runtime/table.py, Note [Which call failed].
    return parameters if method.each is None else (*parameters, ir.Parameter(names.fresh("batch"), "int"))


def renamed(method: Method, names: Names, kinds: list[str]) -> tuple[ir.Parameter, ...]:
    """Returns the arguments as `kinds`, under names that are free in the scope of `names`."""
    return tuple(
        ir.Parameter(names.fresh(argument.name), kind) for argument, kind in zip(method.arguments, kinds, strict=True)
    )
