"""Makes the parts that units share: their names in TorchScript, and the parameters of methods."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Final

from ..._version import PROTOCOL
from ..read.model import Interface, Method
from ..read.types import Type
from ..runtime import definitions
from . import ir
from .names import Names
from .source_names import SourceNames, endpoint

SELF: Final = ir.Parameter("self")
_ROOT: Final = "__torch__.torchremote"


def scope_of(interface: Interface) -> str:
    """Returns the dotted name, in TorchScript, of everything that is generated for `interface`.

    The protocol's number is part of it. So releases with different protocols never call each other's endpoints.
    """
    return f"{_ROOT}.protocol_{PROTOCOL}.{interface.name}_{interface.digest}"


def endpoint_name(interface: Interface, method: Method) -> str:
    """Returns the name of the endpoint that a call of `method` carries over RPC. It is the same on every worker."""
    return f"{scope_of(interface)}.endpoints.{endpoint(method)}"


def through_rref_scope(interface: Interface, interface_name: str, moves: bool) -> str:
    """Returns the dotted name, in TorchScript, of the unit of calls through an RRef: see through_rref.py."""
    # The unit depends on more than the canonical text, so its name does.
    key = f"{interface_name} {moves}\n{interface.declaration}"
    return f"{scope_of(interface)}.through_rref_{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}"


def unit(interface: Interface, part: str, comment: str, *parts: ir.Definition) -> ir.Unit:
    """Makes a unit of an interface, with its scope and title."""
    title = f"<torchremote {interface.name}#{interface.digest} {part}>"
    return ir.Unit(f"{scope_of(interface)}.{part}", title, f"{comment}\n\n{interface.text}", parts)


@functools.cache
def lower_common(native: bool) -> ir.Unit:
    """Returns the unit that every interface uses. It is looked up for each tensor of some calls, so it is made once.

    Args:
        native: whether the native part looks at tensors before they are sent.
    """
    ordinary = "native_ordinary" if native else "ordinary"
    files = (ordinary, "tensors", "message", "batches", "enums", "link", "turns", "accelerator")
    parts = tuple(definition for file in files for definition in definitions(file))
    return ir.Unit(f"{_ROOT}.common", "<torchremote common>", "The same for every interface.", parts)


@functools.cache
def lower_any() -> ir.Unit:
    """Returns the unit that interfaces with values of type Any use."""
    comment = "Values of type Any; the same for every interface."
    return ir.Unit(f"{_ROOT}.any", "<torchremote any>", comment, (*definitions("any_leaves"), *definitions("any")))


def lower_counting() -> ir.Unit:
    """Returns the unit that owners use that count calls."""
    comment = "Counts calls; the same for every interface."
    return ir.Unit(f"{_ROOT}.counting", "<torchremote counting>", comment, definitions("counting"))


MESSAGE_TYPE: Final = "List[Tensor]"
"""The type of the tensors that a message has so far: see runtime/message.py."""

PROGRESS_TYPE: Final = "List[int]"
"""The type of what an endpoint of many calls notes: see runtime/table.py, Note [Which call failed]."""

RUN_PARAMETERS: Final = {"hosted": "Hosted", "flags": "int"}
"""The parameters of a function that runs a call now: the `Hosted` (lower/hosting.py), and the flags."""

QUEUE_PARAMETERS: Final = {"current": "Current", "flags": "int"}
"""Those of a function that queues a call: the `Current` (runtime/current.py), from which it takes the `Hosted` when it
has its turn, and the flags."""


def begin_message(message: ir.Name) -> ir.Statement:
    """Returns the statement for a message that has no tensors yet."""
    return ir.new_list(message, MESSAGE_TYPE)


def future(kind: str) -> str:
    """Writes the type of a Future."""
    return f"Future[{kind}]"


def declare(name: str, parameters: tuple[ir.Parameter, ...], returns: str) -> ir.Function:
    """Returns a method of an interface, which has only a signature."""
    own = Names(parameter.name for parameter in parameters).fresh("self")
    return ir.Function(name, (ir.Parameter(own), *parameters), returns, (ir.Pass(),))


def crossing(method: Method, source_names: SourceNames, names: Names | None = None) -> tuple[ir.Parameter, ...]:
    """Returns the parameters for a method's packed arguments, under names that are free in `names`.

    By default, that is a method's scope. TorchScript compares parameters by name, so an interface and the classes that
    implement it share these names.
    """
    names = names or source_names.scope(["self"])
    parameters = renamed(method, names, source_names.wire)
    # The caller asks by the batch's number which call failed: see runtime/table.py, Note [Which call failed].
    return parameters if method.each is None else (*parameters, ir.Parameter(names.fresh("batch"), "int"))


_OF_METHOD: Final = {SELF.name: SELF.type}
_FLAGS: Final = {"flags": "int"}


def run_scope(
    message: Method,
    source_names: SourceNames,
    before: Mapping[str, str | None] = _OF_METHOD,
    behind: Mapping[str, str] = _FLAGS,
) -> tuple[Names, tuple[ir.Parameter, ...], tuple[ir.Parameter, ...]]:
    """Opens the scope of a function that runs a message. By default, it is a method of `Runs`: see lower/hosting.py.

    Args:
        before, behind: its first parameters with their types, before and behind the progress that many calls have.

    Returns:
        It; the first parameters; and those for the packed arguments.
    """
    names = source_names.scope()
    progress = {} if message.each is None else {"progress": PROGRESS_TYPE}
    first = tuple(ir.Parameter(names.fresh(name), kind) for name, kind in {**before, **progress, **behind}.items())
    return names, first, crossing(message, source_names, names)


def renamed(method: Method, names: Names, write: Callable[[Type], str]) -> tuple[ir.Parameter, ...]:
    """Returns parameters for a method's arguments, under names that are free in `names`. `write` writes their types."""
    return tuple(ir.Parameter(names.fresh(argument.name), write(argument.type)) for argument in method.arguments)
