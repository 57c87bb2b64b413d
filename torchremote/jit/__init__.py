"""The compiler: it takes a typed interface and makes TorchScript that runs over RPC.

The passes, in their order: `read_interface` reads the class into a model. `lower_*` turn the model into programs, one
unit each. `emit` writes a unit's text. `script` compiles the text with TorchScript. `_compile` and `_compile_contract`
run the passes. jit/owner_units.py and jit/caller_units.py run them for the units that are compiled when they are first
used. The compiler knows nothing of callers and owners.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch.distributed.rpc import RRef

from .. import _torch, native
from ..errors import InterfaceError, UnsupportedTypeError
from ..typing import HasStub
from .contract import CompiledInterface, Contract
from .lower import SourceNames, lower_endpoints, lower_enums, lower_link, lower_stub, lower_table, scope_of
from .read.as_written import read_as_written
from .read.interface import caller_locals, checked_class, read_interface
from .read.marks import batched, detached, idempotent
from .read.model import Interface
from .read.paths import in_definition
from .read.types import UnionType, walk
from .script.cache import COMPILING, Cache
from .script.classes import Classes, find_classes, import_classes, known_classes
from .script.common import common_definitions, common_source, sendable
from .script.compile import script
from .script.emit import emit

__all__ = [
    "Classes",
    "CompiledInterface",
    "Contract",
    "Interface",
    "batched",
    "common_source",
    "compile_contract",
    "compile_interface",
    "detached",
    "idempotent",
    "remote_scriptable",
    "sendable",
]


Class = TypeVar("Class")

_tables: Cache[tuple[object, ...], _Table] = Cache()
_first_tables: dict[tuple[str, str], _Table] = {}  # the tables to which endpoints are bound for good
_contracts: Cache[tuple[object, ...], Contract] = Cache()
_interfaces: Cache[tuple[Contract, str, str], CompiledInterface] = Cache()
_shown: Cache[tuple[CompiledInterface, tuple[object, ...]], CompiledInterface] = Cache()
_newest: dict[CompiledInterface, CompiledInterface] = {}  # what was last written of equal methods
_of_classes: WeakKeyDictionary[type, CompiledInterface] = WeakKeyDictionary()


def compile_interface(interface: type | HasStub[Any] | Interface) -> CompiledInterface:
    """Compiles a class of annotated methods. Does nothing new if it is compiled already.

    Args:
        interface: the class, decorated or not, or its model.

    Returns:
        The compiled interface, with its `.source`, `.digest` and `.endpoints`.

    Raises:
        InterfaceError: the class has a signature that cannot cross. The message names interface, method and argument.

    >>> from torch import Tensor
    >>> class Scorer:
    ...     def score(self, x: Tensor, top: int = 3) -> Tensor: ...
    >>> compile_interface(Scorer).interface.text
    'score(x: Tensor, top: int) -> Tensor'
    """
    if isinstance(interface, Interface):
        without_text = _compile(interface)
        return _newest.get(without_text, without_text)
    cls = checked_class(interface)
    compiled = _of_classes.get(cls)
    if compiled is None:
        try:
            model = read_interface(cls)
        except InterfaceError as error:
            if not issubclass(cls, torch.nn.Module):
                raise
            raise type(error)(
                f"{error}\n\n{cls.__name__} is a module. If it is the class that implements the interface, pass the "
                "interface in its place: it is the second argument of create, connect and serve."
            ) from None
        if issubclass(cls, torch.nn.Module) and "__torch_script_interface__" not in vars(cls):
            # The class is also a module, which may be scripted and then needs the plain name.
            model = replace(model, qualified_name=f"{model.qualified_name}_interface")
        compiled = _of_classes[cls] = _shown_as(cls, _compile(model))
    return compiled


_NOTHING: Any = None


def remote_scriptable(cls: type[Class] = _NOTHING) -> type[Class]:
    """Decorates a class: makes it an interface for remote modules, and a TorchScript module interface.

    Everything that calls need is compiled at once, under the class's own qualified name. The decorator reads the
    signatures of all methods, those of base classes too. It reads no source, so the class may be typed into a REPL.

    Args:
        cls: a class of annotated methods: a plain one, a Protocol, or one under `torch.jit.interface`.

    Returns:
        `cls` itself. As an annotation of a scripted module's attribute, it stands for a local module or a stub, and
        default values work in TorchScript, too.

    Raises:
        InterfaceError: a signature cannot cross. The message names interface, method and argument.

    >>> import torch
    >>> @remote_scriptable
    ... class Encoder:
    ...     def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor: ...
    """
    if cls is _NOTHING:
        raise InterfaceError("remote_scriptable takes no arguments: write @remote_scriptable, without parentheses")
    with in_definition(cls):
        compiled = _shown_as(cls, _compile(read_interface(cls, caller_locals(1))))
    # Of a module, torch.jit.interface has made the type already. The one of another class cannot annotate an attribute.
    if not ("__torch_script_interface__" in vars(cls) and issubclass(cls, torch.nn.Module)):
        cls.__torch_script_interface__ = compiled.interface_name  # type: ignore[attr-defined]
        _torch.set_qualified_name(cls, compiled.interface_name)
    _of_classes[cls] = compiled
    return cls


def _shown_as(cls: type, compiled: CompiledInterface) -> CompiledInterface:
    """Adds what is written in a class. Classes with equal methods share all else, and equal text shows the newest."""
    written = read_as_written(cls, [method.name for method in compiled.interface.methods])
    shown = _shown.get((compiled, written.key), lambda: replace(compiled, as_written=written))
    _newest[compiled] = shown
    return shown


def has_cuda() -> bool:
    """Says whether torch has operators for CUDA, as links use them: see lower/send.py."""
    return hasattr(torch.ops.cuda, "synchronize")


def _compile(interface: Interface) -> CompiledInterface:
    """Runs the passes for a caller: the contract, and the stub unit."""
    contract = compile_contract(interface)

    def script_stub() -> CompiledInterface:
        unit = lower_stub(interface, contract.source_names)
        source = emit(unit)
        defined = script(unit, source, around=contract.defined)
        return CompiledInterface(
            interface,
            contract,
            source.text,
            interface_name=defined["Local"].__torch_script_interface__,
            remote_interface=defined["Remote"],
            stub=defined["Stub"],
        )

    # The declaration has everything else that a stub depends on. As text, it tells the defaults 1 and 1.0 apart.
    return _interfaces.get((contract, interface.qualified_name, interface.declaration), script_stub)


def compile_contract(interface: Interface) -> Contract:
    """Compiles the part of an interface that an owner needs. The canonical text is enough: no class is imported for it.

    It does not wait for what others compile, if the interface is compiled already.

    Raises:
        InterfaceError: an enum or NamedTuple of the interface is defined otherwise in this process.
        UnsupportedTypeError: TorchScript cannot have a Union of the interface.
    """
    import_classes(interface)
    known = _contracts.known(_contract_key(interface, known_classes(interface, scope_of(interface))))
    if known is not None:
        return known
    with COMPILING:
        classes = find_classes(interface, scope_of(interface))
        key = _contract_key(interface, classes.values())
        return _contracts.get(key, lambda: _compile_contract(interface, classes, key))


def _contract_key(interface: Interface, classes: Iterable[object]) -> tuple[object, ...]:
    # The classes are part of it: a REPL may define equal ones again, and they are other objects.
    return interface.name, interface.text, *classes


def _compile_contract(interface: Interface, classes: Classes, key: tuple[object, ...]) -> Contract:
    """Runs the passes for the units that depend on the canonical text alone."""
    source_names = SourceNames(interface)
    table = _tables.get(key, lambda: _compile_table(interface, classes, source_names))
    first = _first_tables.setdefault((interface.name, interface.text), table)
    sources, defined = dict(table.sources), dict(table.defined)
    link = lower_link(interface, source_names, native.available(), has_cuda())
    for unit in (lower_endpoints(interface, source_names), link):
        source = emit(unit)
        sources[unit.part] = source.text
        defined |= script(unit, source, around=defined, table=table.constant)
    return Contract(interface, source_names, classes, sources, defined, table.constant, table_is_live=table is first)


@dataclass(frozen=True, eq=False)
class _Table:
    """The first half of a contract: the table to which endpoints are bound, and the units below it.

    It is cached on its own. TorchScript never forgets a registered endpoint. So if compiling stops between two
    endpoints, the next attempt has to use the same table.
    """

    sources: dict[str, str]
    defined: dict[str, Any]
    constant: _torch.Node


def _compile_table(interface: Interface, classes: Classes, source_names: SourceNames) -> _Table:
    """Compiles the enums and the table, and makes the table a constant."""
    named = {source_names.classes[kind]: cls for kind, cls in classes.items()}
    sources: dict[str, str] = {}
    defined: dict[str, Any] = {**common_definitions(interface), **named}
    _check_unions(interface, source_names, defined)
    for lower in (lower_enums, lower_table):
        unit = lower(interface, source_names)
        source = emit(unit)
        sources[unit.part] = source.text
        defined |= script(unit, source, around=defined)
    # Freezing walks through everything in the table, so the pages come after it. The constant shares their list.
    constant = _torch.constant_holding(defined["ModuleTable"])
    defined["ModuleTable"].lay_out()
    return _Table(sources, defined, constant)


def _check_unions(interface: Interface, source_names: SourceNames, defined: dict[str, Any]) -> None:
    """Raises UnsupportedTypeError if TorchScript cannot have a Union of the interface."""
    # The model refuses members that cannot be told apart. Only TorchScript knows which other Unions it gets wrong.
    resolve = _torch.resolver({**vars(typing), "torch": torch, "Tensor": torch.Tensor, "RRef": RRef, **defined})
    for method in interface.methods:
        places = [*(argument.name for argument in method.arguments), "return"]
        for place, kind in zip(places, method.types, strict=True):
            if any(isinstance(part, UnionType) for part in walk(kind)):
                try:
                    _torch.check_type(source_names.declared(kind), resolve)
                except RuntimeError as error:
                    raise UnsupportedTypeError(
                        f"{interface.name}.{method.name}.{place}: TorchScript cannot have {kind}; "
                        f"declare Any, or Optionals: {str(error).strip().splitlines()[0]}"
                    ) from error
