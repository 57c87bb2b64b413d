"""Compiles the text that is the same for every interface, once a process."""

from __future__ import annotations

import math
from typing import Any

from ... import _torch, native
from ..lower import lower_any, lower_common, lower_counting
from ..read.model import Interface
from ..read.types import ANY, walk
from .cache import Cache
from .compile import script
from .emit import emit

_shared: Cache[str, dict[str, Any]] = Cache()


def common_definitions(interface: Interface | None = None) -> dict[str, Any]:
    """Compiles, once a process, the units that all interfaces share. Includes `any` only if `interface` uses Any."""
    common = lower_common(native.available())
    defined = _shared.get(common.scope, lambda: script(common, emit(common), around={}))
    methods = () if interface is None else interface.methods
    if any(part == ANY for method in methods for kind in method.types for part in walk(kind)):
        unit = lower_any()
        defined = {**defined, **_shared.get(unit.scope, lambda: script(unit, emit(unit), around=defined))}
    return defined


def counting_definitions() -> dict[str, Any]:
    """Compiles, once a process, the unit that counts calls."""
    unit = lower_counting()
    return _shared.get(unit.scope, lambda: script(unit, emit(unit), around={"math": math}))


def sendable() -> _torch.ScriptFunction:
    """Returns the scripted function `sendable(tensor, devices, where)` of runtime/tensors.py."""
    function: _torch.ScriptFunction = common_definitions()["sendable"]
    return function


def common_source() -> str:
    """Returns the text that is the same for every interface."""
    return "\n\n".join(emit(unit).text for unit in (lower_common(native.available()), lower_any()))
