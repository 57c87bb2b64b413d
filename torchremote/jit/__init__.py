"""The compiler: a typed interface in, TorchScript that runs over RPC out. Its passes are `_compile`, top to bottom."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch

from .. import _torch
from .foundation import Foundation, common_source, lay_foundation
from .lower import endpoint_name, ir, lower_placement, lower_stub, scope_of
from .lower.plan import Placement
from .lower.spell import Spelling
from .read.interface import batched, caller_locals, read_interface
from .read.model import Interface
from .script.cache import COMPILING, Cache, compiling
from .script.classes import Classes, find_classes, import_classes
from .script.compile import script
from .script.emit import emit

__all__ = [
    "Classes",
    "CompiledInterface",
    "Contract",
    "Interface",
    "Placement",
    "batched",
    "common_source",
    "compile_contract",
    "compile_interface",
    "remote_scriptable",
]


@dataclass(frozen=True, eq=False)
class Contract:
    """What caller and owner share of an interface: compiled from its canonical text alone.

    Note [Accelerators come later]
        The endpoints for modules on the CPU are compiled with the interface; those for accelerators, as much again
        each, when the first module of it is hosted on one, or the first stub of such a module made: never in a call.
    """

    interface: Interface  # of whichever class came first: only its name and canonical text count
    classes: Classes  # the Python classes of its enums and NamedTuples
    foundation: Foundation
    hosts: bool  # whether its table is the one that endpoints read: not if its classes were defined anew since

    @property
    def scope(self) -> str:
        """The dotted name, in TorchScript, of all that is generated for it: equal where stubs and endpoints match."""
        return scope_of(self.interface)

    @property
    def defined(self) -> dict[str, Any]:
        """What the types, table and wire units define, and the classes, under their names there."""
        return self.foundation.defined

    @property
    def host(self) -> torch.jit.ScriptModule:
        """This process's table of modules of the interface; for shelves.py, which serialises its use."""
        host: torch.jit.ScriptModule = self.defined["Host"]
        return host

    def connect(self, placement: Placement) -> _torch.ScriptFunction:
        """What attaches a stub to a module in `placement`; its endpoints are compiled here, too, from then on."""
        return _connects.get((self, placement), lambda: self._compile(placement))

    def _compile(self, placement: Placement) -> _torch.ScriptFunction:
        unit = lower_placement(self.interface, placement, Spelling(self.interface))
        connect: _torch.ScriptFunction = script(unit, emit(unit), self.defined, self.foundation.table)["connect"]
        return connect

    @property
    def sources(self) -> dict[str, str]:
        """The text of each unit: types, table, wire, host, staged, mapped."""
        units = {
            placement.value: lower_placement(self.interface, placement, Spelling(self.interface))
            for placement in Placement
        }
        return {**self.foundation.sources, **{name: emit(unit) for name, unit in units.items()}}

    @property
    def endpoints(self) -> dict[Placement, dict[str, str]]:
        """The names that TorchScript knows them by, by placement and method; all are compiled, if they were not."""
        for placement in Placement:
            self.connect(placement)
        return {
            placement: {
                method.name: endpoint_name(self.interface, placement, method) for method in self.interface.methods
            }
            for placement in Placement
        }


@dataclass(frozen=True, eq=False)
class CompiledInterface:
    """An interface, compiled: `.source`, `.digest`, `.endpoints`."""

    interface: Interface
    contract: Contract
    stub_source: str
    interface_name: str  # what TorchScript calls the interface
    remote_interface: type  # the interface of its stubs: `<m>` and `<m>_async`
    stub: torch.jit.ScriptModule  # a disconnected stub, of which others are copies

    @property
    def digest(self) -> str:
        """Equal for two interfaces whose methods are the same to TorchScript: see model.py, Note [Canonical text]."""
        return self.interface.digest

    @property
    def source(self) -> str:
        """What was generated for the interface, unit by unit; `common_source` is what all of them share."""
        return "\n\n".join([*self.contract.sources.values(), self.stub_source])

    @property
    def endpoints(self) -> dict[Placement, dict[str, str]]:
        """What runs on the owner: by placement and method, its name in TorchScript's global compilation unit."""
        return self.contract.endpoints


Class = TypeVar("Class")

_foundations: Cache[tuple[object, ...], Foundation] = Cache()
_first_foundations: dict[tuple[str, str], Foundation] = {}  # whose tables endpoints are bound to, for good
_contracts: Cache[tuple[object, ...], Contract] = Cache()
_connects: Cache[tuple[Contract, Placement], _torch.ScriptFunction] = Cache()
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
        return _compile_model(interface)
    compiled = _of_classes.get(interface) if isinstance(interface, type) else None
    if compiled is None:
        model = read_interface(interface)
        if issubclass(interface, torch.nn.Module) and "__torch_script_interface__" not in vars(interface):
            # The name itself is for the module, which may be scripted, too.
            model = replace(model, qualified_name=f"{model.qualified_name}_interface")
        compiled = _of_classes[interface] = _compile_model(model)
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
    compiled = _compile_model(read_interface(cls, caller_locals(1)))
    if "__torch_script_interface__" not in vars(cls):  # torch.jit.interface has compiled it already, otherwise
        cls.__torch_script_interface__ = compiled.interface_name  # type: ignore[attr-defined]
        _torch.set_qualified_name(cls, compiled.interface_name)
    _of_classes[cls] = compiled
    return cls


def _compile_model(interface: Interface) -> CompiledInterface:
    with compiling():
        unit = lower_stub(interface, Spelling(interface))
        source = emit(unit)
    contract = compile_contract(interface)
    # The text is in the key: it holds all else that a stub depends on, defaults to the last bit included.
    return _interfaces.get((contract, source), lambda: _compile(interface, contract, unit, source))


def _compile(interface: Interface, contract: Contract, unit: ir.Unit, source: str) -> CompiledInterface:
    defined = script(unit, source, given=contract.defined)
    return CompiledInterface(
        interface,
        contract,
        source,
        interface_name=defined["Local"].__torch_script_interface__,
        remote_interface=defined["Remote"],
        stub=defined["Stub"],
    )


def compile_contract(interface: Interface) -> Contract:
    """Compiles what an owner needs: on the canonical text alone, so also for an interface never imported here.

    Raises:
        InterfaceError: an enum or NamedTuple of the interface is not the same here.
    """
    import_classes(interface)
    with COMPILING:
        classes = find_classes(interface, scope_of(interface))
        # The classes are part of the key: in a REPL they may be defined again, the same and yet others.
        key = (interface.name, interface.text, *classes.values())
        return _contracts.get(key, lambda: _compile_contract(interface, classes, key))


def _compile_contract(interface: Interface, classes: Classes, key: tuple[object, ...]) -> Contract:
    foundation = _foundations.get(key, lambda: lay_foundation(interface, classes))
    first = _first_foundations.setdefault((interface.name, interface.text), foundation)
    contract = Contract(interface, classes, foundation, hosts=foundation is first)
    contract.connect(Placement.HOST)  # see Note [Accelerators come later]
    return contract
