"""Defines what comes of compiling an interface."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from .. import _torch, native
from .lower import SourceNames, endpoint_name, lower_forked, lower_hosting, lower_in_turn, scope_of
from .read.as_written import AsWritten
from .read.model import Interface
from .script.classes import Classes
from .script.emit import emit


@dataclass(frozen=True, eq=False)
class Contract:
    """The part of an interface that caller and owner share, compiled from its canonical text alone."""

    interface: Interface  # the model of the class that came first; only its name and canonical text count
    source_names: SourceNames  # the names in what is generated for it
    classes: Classes  # the Python classes of its enums and NamedTuples
    sources: dict[str, str]  # the text of each unit: enums, table, endpoints, link
    defined: dict[str, Any]  # the definitions of these units, and the classes, by their names in the text
    constant: _torch.Node  # the table, as functions have it that are bound to it
    table_is_live: bool  # whether endpoints read its table; False if its classes were defined anew since

    @property
    def scope(self) -> str:
        """Returns the dotted TorchScript name of all that is generated. Stub and endpoints fit if theirs is equal."""
        return scope_of(self.interface)

    @property
    def table(self) -> torch.jit.ScriptModule:
        """Returns this process's table of modules of the interface. owner/running/tables.py serialises its use."""
        table: torch.jit.ScriptModule = self.defined["ModuleTable"]
        return table

    @property
    def hosting_sources(self) -> dict[str, str]:
        """Returns the text of the units that run calls at once, forked and in turn, compiled or not.

        jit/owner_units.py compiles them.
        """
        interface, names = self.interface, self.source_names
        in_turn = lower_in_turn(interface, names, native.available())
        units = (lower_hosting(interface, names), lower_forked(interface, names), in_turn)
        return {unit.part: emit(unit).text for unit in units}

    @property
    def endpoints(self) -> dict[str, str]:
        """Returns the name of each method's endpoint in TorchScript's global compilation unit."""
        return {method.name: endpoint_name(self.interface, method) for method in self.interface.methods}


@dataclass(frozen=True, eq=False)
class CompiledInterface:
    """A compiled interface, with its `.source`, `.digest` and `.endpoints`.

    >>> from torchremote.jit import compile_interface
    >>> class Scorer:
    ...     def score(self, x: torch.Tensor) -> torch.Tensor: ...
    >>> compiled = compile_interface(Scorer)
    >>> compiled.endpoints["score"].rpartition(".")[2]
    '_remote_score'
    """

    interface: Interface
    contract: Contract
    stub_source: str
    interface_name: str  # the interface's name in TorchScript
    remote_interface: type  # the interface of its stubs: `<m>`, `<m>_async`, `<m>_many` and `<m>_many_async`
    stub: torch.jit.ScriptModule  # a disconnected stub; all others are copies of it
    as_written: AsWritten = field(default_factory=AsWritten)  # what `help` shows of it

    @property
    def digest(self) -> str:
        """Returns a hash. Equal hash, equal methods in TorchScript: see read/model.py, Note [Canonical text]."""
        return self.interface.digest

    @property
    def source(self) -> str:
        """Returns the text generated for this interface alone. `common_source` returns the text that all share."""
        return "\n\n".join(self.sources.values())

    @property
    def sources(self) -> dict[str, str]:
        """Returns the text of each unit that needs no marks and no first use, those of owners too.

        `python -m torchremote emit --unit` prints the others.
        """
        return {**self.contract.sources, **self.contract.hosting_sources, "stub": self.stub_source}

    @property
    def endpoints(self) -> dict[str, str]:
        """Returns, for each method, the name of its endpoint in TorchScript's global compilation unit."""
        return self.contract.endpoints
