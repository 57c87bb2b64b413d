"""Knows the versions of a state: what torch's `state_dict` says of each part of a module beside its tensors.

Note [Versions of states]
    torch notes `_version` of each part's class in a state, as `state._metadata`. When a state is loaded, a part may
    convert one of another version, in a `_load_from_state_dict` or a hook of its own. That is Python, and TorchScript
    keeps neither it nor the versions. So both are read from the Python module when it is scripted. A state that is read
    from a module, or written to a file, has its versions. One that is loaded is copied by its names. If a part that
    converts is given a state of another version, that is refused. The overrides and hooks of torch's own classes need
    no such care: they add and rename tensors, or change their shapes, and what does not fit is refused by its names.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch

from .. import _torch
from ..link.stubs import is_stub

_SET_BY_LOADING: Final = "assign_to_params_buffers"  # torch leaves it in the versions of a state that it loaded


@dataclass(frozen=True)
class Versions:
    """The versions of a module's state."""

    of_parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """For each part, by its name: its version, and what a hook of the module adds. torch calls this `_metadata`."""
    converting: Mapping[str, str] = field(default_factory=dict)
    """The parts that convert states of other versions, and with what."""

    def misfits(self, state: Mapping[str, torch.Tensor]) -> list[str]:
        """Words which parts would have to convert `state`."""
        given = of_state(state)
        return [
            f"{_shown(given.get(part))}{f' of {part}' if part else ''}, and {_shown(self.of_parts.get(part))} in the "
            f"module, which would convert it with {by}, in Python; load it into such a module, and take the "
            "state_dict() of that; copies of a state as a plain dict lose its versions"
            for part, by in self.converting.items()
            if any(not part or name.startswith(f"{part}.") for name in state)
            and _compared(given.get(part)) != _compared(self.of_parts.get(part))
        ]


def versions_of(module: torch.nn.Module, state: Mapping[str, Any]) -> Versions:
    """Reads the versions of a Python module's `state_dict`, and which of its parts convert those of others."""
    converting = {}
    for name, part in module.named_modules(remove_duplicate=False):
        if not is_stub(part):
            by = _torch.converts_states_by(part, is_whole=part is module)
            if by:
                converting[name] = f"{type(part).__name__}'s {by}"
    return Versions(of_state(state), converting)


def of_state(state: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Returns the versions that are noted in a state. A plain dict has none."""
    noted = getattr(state, "_metadata", None)
    return dict(noted) if isinstance(noted, Mapping) else {}


def with_versions(
    state: Mapping[str, torch.Tensor], of_parts: Mapping[str, Mapping[str, Any]], prefix: str = ""
) -> OrderedDict[str, torch.Tensor]:
    """Returns a state as torch's `state_dict` does: with its versions, and with `prefix` before each name."""
    noted: Any = OrderedDict((f"{prefix}{name}", value) for name, value in state.items())
    noted._metadata = OrderedDict(
        (f"{prefix}{part}" if part else prefix[:-1], dict(version)) for part, version in of_parts.items()
    )
    made: OrderedDict[str, torch.Tensor] = noted
    return made


def _compared(version: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (version or {}).items() if name != _SET_BY_LOADING}


def _shown(version: Mapping[str, Any] | None) -> str:
    compared = _compared(version)
    if not compared:
        return "the state has no version"
    if compared.keys() == {"version"}:
        return f"version {compared['version']}"
    return f"version {compared}"
