"""What an interface's endpoints and stubs are compiled on: its classes, its table, and what all interfaces share."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.rpc import RRef

from .. import _torch
from ..errors import UnsupportedTypeError
from .lower import ir, lower_any, lower_table, lower_tensors, lower_types, lower_wire
from .lower.spell import Spelling
from .read.model import Interface
from .read.types import ANY, UnionType, walk
from .script.cache import Cache
from .script.classes import Classes
from .script.compile import script
from .script.emit import emit


@dataclass(frozen=True, eq=False)
class Foundation:
    """Cached on its own. TorchScript never forgets a registered endpoint, and an endpoint is bound to its table; so if
    compiling stops between two endpoints, the next attempt has to go on with the same table.
    """

    sources: dict[str, str]  # the text of each unit: types, table, wire
    defined: dict[str, Any]  # what these units define, what is shared, and the classes, under their names there
    table: _torch.Node  # the constant to which endpoints are bound


def lay_foundation(interface: Interface, classes: Classes) -> Foundation:
    """
    Raises:
        UnsupportedTypeError: TorchScript cannot have a Union of the interface.
    """
    spelling = Spelling(interface)
    defined = {**_common_to_all(interface), **{spelling.classes[named]: cls for named, cls in classes.items()}}
    _check_unions(interface, spelling, defined)
    sources = {}
    for part, lower in (("types", lower_types), ("table", lower_table), ("wire", lower_wire)):
        unit = lower(interface, spelling)
        sources[part] = emit(unit)
        defined |= script(unit, sources[part], given=defined)
    # In this order: freezing looks at all that the table holds, and what becomes the constant shares the list of pages.
    table = _torch.constant_holding(defined["Host"])
    defined["Host"].lay_out()
    return Foundation(sources, defined, table)


def _check_unions(interface: Interface, spelling: Spelling, defined: dict[str, Any]) -> None:
    # The model knows which members cannot be told apart. That TorchScript gets others wrong, only TorchScript knows.
    resolve = _torch.resolver({**vars(typing), "torch": torch, "Tensor": torch.Tensor, "RRef": RRef, **defined})
    for method in interface.methods:
        places = [*(argument.name for argument in method.arguments), "return"]
        for place, type in zip(places, method.types, strict=True):
            if any(isinstance(part, UnionType) for part in walk(type)):
                try:
                    _torch.check_type(spelling.declared(type), resolve)
                except RuntimeError as error:
                    raise UnsupportedTypeError(
                        f"{interface.name}.{method.name}.{place}: TorchScript cannot have {type}; "
                        f"declare Any, or Optionals: {str(error).strip().splitlines()[0]}"
                    ) from error


_common: Cache[str, dict[str, Any]] = Cache()


def _common_to_all(interface: Interface) -> dict[str, Any]:
    """What every interface is compiled on; the walk through Any only where it is used."""
    tensors = _compile_common(lower_tensors(), given={})
    uses_any = any(part == ANY for method in interface.methods for type in method.types for part in walk(type))
    return {**tensors, **_compile_common(lower_any(), given=tensors)} if uses_any else tensors


def _compile_common(unit: ir.Unit, given: dict[str, Any]) -> dict[str, Any]:
    return _common.get(unit.scope, lambda: script(unit, emit(unit), given))


def sendable() -> _torch.ScriptFunction:
    """`sendable(tensor, devices, where)`, which returns a tensor as it can be sent, or raises: see tensors.py."""
    function: _torch.ScriptFunction = _compile_common(lower_tensors(), given={})["sendable"]
    return function


def common_source() -> str:
    """What is generated alike for every interface."""
    return "\n\n".join(emit(unit) for unit in (lower_tensors(), lower_any()))
