"""The compiler: a typed interface in, TorchScript that runs over RPC out. Its passes are `_compile`, top to bottom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from . import _torch
from .cache import Cache
from .emit import emit
from .interface import caller_locals, read_interface
from .lower import endpoint_name, lower_placement, lower_stub, lower_table
from .model import Interface
from .plan import Placement, plan_method
from .script import script

__all__ = [
    "CompiledInterface",
    "Contract",
    "Interface",
    "Placement",
    "compile_contract",
    "compile_interface",
    "remote_scriptable",
]


@dataclass(frozen=True, eq=False)
class Contract:
    """What caller and owner share of an interface: compiled from its canonical text alone."""

    interface: Interface  # of whichever class came first: only its name and canonical text count
    sources: dict[str, str]  # the text of each unit: table, host, staged, mapped
    endpoints: dict[Placement, dict[str, str]]  # the names that TorchScript knows them by, by placement and method
    table: dict[str, Any]  # what the table unit defines
    connect: dict[Placement, _torch.ScriptFunction]  # attaches a stub to a module in that placement

    @property
    def host(self) -> torch.jit.ScriptModule:
        """This process's table of modules of the interface; for host.py, which serialises its use."""
        host: torch.jit.ScriptModule = self.table["Host"]
        return host


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
        """Equal for two interfaces exactly if one can call the other: see model.py, Note [Canonical text]."""
        return self.interface.digest

    @property
    def source(self) -> str:
        """All that was generated, unit by unit."""
        return "\n\n".join([*self.contract.sources.values(), self.stub_source])

    @property
    def endpoints(self) -> dict[Placement, dict[str, str]]:
        """What runs on the owner: by placement and method, its name in TorchScript's global compilation unit."""
        return self.contract.endpoints


Class = TypeVar("Class")
_COMPILED = "__torchremote_compiled__"

_tables: Cache[tuple[str, str], tuple[dict[str, Any], _torch.Node]] = Cache()
_contracts: Cache[tuple[str, str], Contract] = Cache()
_interfaces: Cache[str, CompiledInterface] = Cache()


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
    if not isinstance(interface, Interface):
        compiled: CompiledInterface | None = getattr(interface, "__dict__", {}).get(_COMPILED)
        if compiled is not None:
            return compiled
        interface = read_interface(interface)
    unit = lower_stub(interface)
    source = emit(unit)
    # The text is the key: it holds all that a stub depends on, defaults to the last bit included.
    return _interfaces.get(source, lambda: _compile(interface, source))


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
    compiled = compile_interface(read_interface(cls, caller_locals(1)))
    if "__torch_script_interface__" not in vars(cls):  # torch.jit.interface has compiled it already, otherwise
        cls.__torch_script_interface__ = compiled.interface_name  # type: ignore[attr-defined]
        _torch.set_qualified_name(cls, compiled.interface_name)
    setattr(cls, _COMPILED, compiled)
    return cls


def _compile(interface: Interface, source: str) -> CompiledInterface:
    contract = compile_contract(interface)
    defined = script(lower_stub(interface), source, given=contract.table)
    return CompiledInterface(
        interface,
        contract,
        source,
        interface_name=defined["Local"].__torch_script_interface__,
        remote_interface=defined["Remote"],
        stub=defined["Stub"],
    )


def compile_contract(interface: Interface) -> Contract:
    """Compiles what an owner needs: on the canonical text alone, so also for an interface never imported here."""
    return _contracts.get((interface.name, interface.text), lambda: _compile_contract(interface))


def _compile_contract(interface: Interface) -> Contract:
    table, constant = _tables.get((interface.name, interface.text), lambda: _make_table(interface))
    unit = lower_table(interface)
    sources = {"table": emit(unit)}
    connect, endpoints = {}, {}
    for placement in Placement:
        plans = {method.name: plan_method(method, placement) for method in interface.methods}
        unit = lower_placement(interface, placement, plans)
        source = sources[placement.value] = emit(unit)
        connect[placement] = script(unit, source, given=table, table=constant)["connect"]
        endpoints[placement] = {
            method.name: endpoint_name(interface, placement, method) for method in interface.methods
        }
    return Contract(interface, sources, endpoints, table, connect)


def _make_table(interface: Interface) -> tuple[dict[str, Any], _torch.Node]:
    # Cached on its own. TorchScript never forgets a registered endpoint, and an endpoint is bound to its table; so if
    # compiling stops between two endpoints, the next attempt has to go on with the same table.
    unit = lower_table(interface)
    table = script(unit, emit(unit), given={})
    table["Host"].lay_out()
    return table, _torch.constant_holding(table["Host"])
