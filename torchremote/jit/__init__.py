"""The compiler: a typed interface in, TorchScript that runs over RPC out.

The passes, in their order: `read_interface` makes the model; `lower_*` makes a program of it, a unit at a time; `emit`
writes a unit's text; `script` has TorchScript compile the text. `_compile` and `_compile_contract` run them.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch.distributed.rpc import RRef

from .. import _torch
from ..errors import UnsupportedTypeError
from .lower import (
    SourceNames,
    endpoint_name,
    lower_any,
    lower_common,
    lower_endpoints,
    lower_enums,
    lower_link,
    lower_stub,
    lower_table,
    scope_of,
)
from .read.interface import batched, caller_locals, read_interface
from .read.model import Interface
from .read.types import ANY, UnionType, walk
from .script.cache import COMPILING, Cache, compiling
from .script.classes import Classes, find_classes, import_classes
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
    "remote_scriptable",
    "sendable",
]


@dataclass(frozen=True, eq=False)
class Contract:
    """Holds what caller and owner share of an interface: compiled from its canonical text alone."""

    interface: Interface  # of whichever class came first: only its name and canonical text count
    classes: Classes  # the Python classes of its enums and NamedTuples
    sources: dict[str, str]  # the text of each unit: enums, table, endpoints, link
    defined: dict[str, Any]  # what these units define, and the classes, under their names there
    table_is_live: bool  # whether endpoints read its table: not if its classes were defined anew since

    @property
    def scope(self) -> str:
        """The dotted name, in TorchScript, of all that is generated for it: equal where stubs and endpoints match."""
        return scope_of(self.interface)

    @property
    def table(self) -> torch.jit.ScriptModule:
        """This process's table of modules of the interface. owner/tables.py serialises its use."""
        table: torch.jit.ScriptModule = self.defined["ModuleTable"]
        return table

    @property
    def endpoints(self) -> dict[str, str]:
        """The name of each method's endpoint in TorchScript's global compilation unit."""
        return {method.name: endpoint_name(self.interface, method) for method in self.interface.methods}


@dataclass(frozen=True, eq=False)
class CompiledInterface:
    """Holds an interface, compiled: `.source`, `.digest`, `.endpoints`."""

    interface: Interface
    contract: Contract
    stub_source: str
    interface_name: str  # what TorchScript calls the interface
    remote_interface: type  # the interface of its stubs: `<m>`, `<m>_async`, `<m>_many` and `<m>_many_async`
    stub: torch.jit.ScriptModule  # a disconnected stub, of which others are copies

    @property
    def digest(self) -> str:
        """Equal for interfaces whose methods are the same to TorchScript: see read/model.py, Note [Canonical text]."""
        return self.interface.digest

    @property
    def source(self) -> str:
        """All that was generated for the interface, unit by unit. `common_source` is what interfaces share."""
        return "\n\n".join([*self.contract.sources.values(), self.stub_source])

    @property
    def endpoints(self) -> dict[str, str]:
        """What runs on the owner: by method, its name in TorchScript's global compilation unit."""
        return self.contract.endpoints


Class = TypeVar("Class")

_tables: Cache[tuple[object, ...], _Table] = Cache()
_first_tables: dict[tuple[str, str], _Table] = {}  # those that endpoints are bound to, for good
_contracts: Cache[tuple[object, ...], Contract] = Cache()
_interfaces: Cache[tuple[Contract, str], CompiledInterface] = Cache()
_of_classes: WeakKeyDictionary[type, CompiledInterface] = WeakKeyDictionary()


def compile_interface(interface: type | Interface) -> CompiledInterface:
    """Compiles a class of annotated methods, or finds it compiled.

    Args:
        interface: the class, decorated or not, or the model of one.

    Raises:
        InterfaceError: the class has a signature that cannot cross; the message names interface, method and argument.

    >>> from torch import Tensor
    >>> class Scorer:
    ...     def score(self, x: Tensor, top: int = 3) -> Tensor: ...
    >>> compile_interface(Scorer).interface.text
    'score(x: Tensor, top: int) -> Tensor'
    """
    if isinstance(interface, Interface):
        return _compile(interface)
    compiled = _of_classes.get(interface) if isinstance(interface, type) else None
    if compiled is None:
        model = read_interface(interface)
        if issubclass(interface, torch.nn.Module) and "__torch_script_interface__" not in vars(interface):
            # The name itself is for the module, which may be scripted, too.
            model = replace(model, qualified_name=f"{model.qualified_name}_interface")
        compiled = _of_classes[interface] = _compile(model)
    return compiled


def remote_scriptable(cls: type[Class]) -> type[Class]:
    """Class decorator: makes `cls` an interface for remote modules, and a TorchScript module interface.

    Any class of annotated methods will do: a plain one, a Protocol, one under `torch.jit.interface`, one typed into a
    REPL. Signatures are read, the methods of bases among them, and never source. All that calls need is compiled
    here and now, under the class's own qualified name.

    Returns:
        `cls` itself. As an annotation of a scripted module's attribute, it stands for a local module or for a stub,
        and default values hold in TorchScript, too.

    Raises:
        InterfaceError: a signature that cannot cross; the message names interface, method and argument.

    >>> import torch
    >>> @remote_scriptable
    ... class Encoder:
    ...     def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor: ...
    """
    compiled = _compile(read_interface(cls, caller_locals(1)))
    if "__torch_script_interface__" not in vars(cls):  # torch.jit.interface has compiled it already, otherwise
        cls.__torch_script_interface__ = compiled.interface_name  # type: ignore[attr-defined]
        _torch.set_qualified_name(cls, compiled.interface_name)
    _of_classes[cls] = compiled
    return cls


def _compile(interface: Interface) -> CompiledInterface:
    with compiling():
        source_names = SourceNames(interface)
        unit = lower_stub(interface, source_names)
        source = emit(unit)
    contract = compile_contract(interface, source_names)

    def script_stub() -> CompiledInterface:
        defined = script(unit, source, around=contract.defined)
        return CompiledInterface(
            interface,
            contract,
            source.text,
            interface_name=defined["Local"].__torch_script_interface__,
            remote_interface=defined["Remote"],
            stub=defined["Stub"],
        )

    # The text is in the key: it holds all else that a stub depends on, defaults to the last bit included.
    return _interfaces.get((contract, source.text), script_stub)


def compile_contract(interface: Interface, source_names: SourceNames | None = None) -> Contract:
    """Compiles what an owner needs: on the canonical text alone, so also for an interface never imported here.

    Raises:
        InterfaceError: an enum or NamedTuple of the interface is not the same here.
        UnsupportedTypeError: TorchScript cannot have a Union of the interface.
    """
    import_classes(interface)
    with COMPILING:
        classes = find_classes(interface, scope_of(interface))
        # The classes are part of the key: in a REPL they may be defined again, the same and yet others.
        key = (interface.name, interface.text, *classes.values())
        return _contracts.get(
            key, lambda: _compile_contract(interface, classes, key, source_names or SourceNames(interface))
        )


def _compile_contract(
    interface: Interface, classes: Classes, key: tuple[object, ...], source_names: SourceNames
) -> Contract:
    table = _tables.get(key, lambda: _compile_table(interface, classes, source_names))
    first = _first_tables.setdefault((interface.name, interface.text), table)
    sources, defined = dict(table.sources), dict(table.defined)
    for lower in (lower_endpoints, lower_link):
        unit = lower(interface, source_names)
        source = emit(unit)
        sources[unit.part] = source.text
        defined |= script(unit, source, around=defined, table=table.constant)
    return Contract(interface, classes, sources, defined, table_is_live=table is first)


@dataclass(frozen=True, eq=False)
class _Table:
    """Holds the first half of a contract: the table, to which endpoints are bound, and what it is compiled on.

    It is cached on its own. TorchScript never forgets a registered endpoint, so if compiling stops between two
    endpoints, the next attempt has to go on with the same table.
    """

    sources: dict[str, str]
    defined: dict[str, Any]
    constant: _torch.Node


def _compile_table(interface: Interface, classes: Classes, source_names: SourceNames) -> _Table:
    named = {source_names.classes[kind]: cls for kind, cls in classes.items()}
    sources: dict[str, str] = {}
    defined: dict[str, Any] = {**_common(interface), **named}
    _check_unions(interface, source_names, defined)
    for lower in (lower_enums, lower_table):
        unit = lower(interface, source_names)
        source = emit(unit)
        sources[unit.part] = source.text
        defined |= script(unit, source, around=defined)
    # In this order: freezing looks at all that the table holds, and what becomes the constant shares the list of pages.
    constant = _torch.constant_holding(defined["ModuleTable"])
    defined["ModuleTable"].lay_out()
    return _Table(sources, defined, constant)


def _check_unions(interface: Interface, source_names: SourceNames, defined: dict[str, Any]) -> None:
    # The model knows which members cannot be told apart. That TorchScript gets others wrong, only TorchScript knows.
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


# -- what is the same for every interface

_shared: Cache[str, dict[str, Any]] = Cache()


def _common(interface: Interface | None = None) -> dict[str, Any]:
    """Compiles, once a process, what `interface` shares with others; the walk through Any only if it is used."""
    common = lower_common()
    defined = _shared.get(common.scope, lambda: script(common, emit(common), around={}))
    methods = () if interface is None else interface.methods
    if any(part == ANY for method in methods for kind in method.types for part in walk(kind)):
        unit = lower_any()
        defined = {**defined, **_shared.get(unit.scope, lambda: script(unit, emit(unit), around=defined))}
    return defined


def sendable() -> _torch.ScriptFunction:
    """Returns `sendable(tensor, devices, where)`, which gives a tensor as it can be sent, or raises: see
    runtime/tensors.py."""
    function: _torch.ScriptFunction = _common()["sendable"]
    return function


def common_source() -> str:
    """Returns what is generated alike for every interface."""
    return "\n\n".join(emit(unit).text for unit in (lower_common(), lower_any()))
