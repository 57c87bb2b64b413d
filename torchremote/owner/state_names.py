"""Knows which names belong to the state of a hosted module: those of its own `state_dict`.

Note [Whole states]
    The `state_dict` of a scripted module is not that of the Python module from which it was made. It lacks what is
    neither parameter nor buffer: quantized weights, extra state, and what a module adds in a `state_dict` of its own.
    And it has the buffers that are not persistent. So the names are read from the Python module when it is scripted.
    A state is what stands under these names; if the scripted module lacks some of it, asking for the state is refused.

    TorchScript does not keep those names. An exported module has them in an attribute, so copies and files have them,
    too. If another module was scripted before it was hosted, its state is all parameters and buffers. It is refused if
    there is visibly more: if the module was frozen, or holds an object of torch's own classes, such as packed weights.
"""

from __future__ import annotations

import itertools
import json
import sys
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch

from .. import _torch
from ..errors import ArgumentError, CreationError, NotSavableError
from ..jit.export import STATE, is_compiled
from ..link.route import address_of
from ..link.stubs import is_stub
from .state_versions import Versions, of_state, versions_of, with_versions

_SHOWN: Final = 5  # names in a message
_names_of: weakref.WeakKeyDictionary[torch.nn.Module, StateNames] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class ShapeAndDtype:
    """The shape and dtype of a tensor of a state. `overlaps`: whether elements of it share memory."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    overlaps: bool = False


@dataclass(frozen=True)
class StateNames:
    """The names of a module's state."""

    names: frozenset[str] | None  # None: all that its scripted module has
    lost: str  # why the state is not whole; "" if it is
    versions: Versions = field(default_factory=Versions)


def remember_names(scripted: torch.jit.ScriptModule, names: StateNames) -> None:
    """Remembers the names of a module's state, which `read_names` read before it was scripted, here or elsewhere."""
    _names_of[scripted] = names


def copy_names(copied: torch.jit.ScriptModule, scripted: torch.jit.ScriptModule) -> None:
    """Makes the names of `scripted` also those of a copy of it."""
    known = _names_of.get(scripted)
    if known is not None:
        _names_of[copied] = known


def names_of(scripted: torch.jit.ScriptModule) -> StateNames | None:
    """Returns the names that are remembered. None: nobody has read them yet."""
    return _names_of.get(scripted)


def versions_in(scripted: torch.jit.ScriptModule) -> Versions:
    """Returns the versions of the state of a hosted module, of which `state_of` has returned it."""
    return _names_of[scripted].versions


def check_has_state(module: torch.nn.Module) -> None:
    """Raises ArgumentError for a hosted module whose state is not here: a compiled one, or a stub."""
    if is_compiled(module):
        raise ArgumentError(
            "the module was compiled by AOTInductor, and its parameters and device are part of its code, so it gives "
            "no state and takes none, as from a checkpoint; change the original, and compile that again"
        )
    if is_stub(module):
        raise ArgumentError(
            f"what is hosted is itself a stub, of a module on {address_of(module).worker}, which has the state; ask "
            "with a stub of that one"
        )


def check_whole(module: torch.nn.Module) -> None:
    """Raises CreationError for a parameter or buffer of which this process has a part. No call could use it."""
    distributed: Any = sys.modules.get("torch.distributed.tensor")  # who has such a tensor has imported it
    kind = getattr(distributed, "DTensor", ())
    tensors = (torch.nn.Module.named_parameters(module), torch.nn.Module.named_buffers(module))
    for name, tensor in itertools.chain(*tensors):
        if isinstance(tensor, kind):
            raise CreationError(
                f"{type(module).__name__}: {name} is a DTensor, of which each process has a part; host a module with "
                "whole ones, as .full_tensor() gives them"
            )


def state_of(scripted: torch.jit.ScriptModule) -> OrderedDict[str, torch.Tensor]:
    """Returns the state of a hosted module, with its versions. Its tensors are the module's own.

    Raises:
        ArgumentError: the state is not here.
        NotSavableError: the scripted module does not have the whole state.
    """
    check_has_state(scripted)
    known = _names_of.get(scripted)
    if known is None:
        known = _names_of[scripted] = _noted_names(scripted)
    if known.lost:
        raise NotSavableError(
            f"{known.lost}; a state has parameters and buffers; save such a module where it is made, before it is "
            "hosted, or create it with its state as an argument"
        )
    state: dict[str, torch.Tensor] = scripted.state_dict()
    kept = {name: value for name, value in state.items() if known.names is None or name in known.names}
    return with_versions(kept, known.versions.of_parts)


def misfits_of_kind(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> str:
    """Says in words which tensors of a state are of another kind than those of a module. "" if none is."""
    found = []
    for name, tensor in own.items():
        if _kind(state[name]) != _kind(tensor):
            found.append(f"{name} is {_kind(state[name])}, and {_kind(tensor)} in the module")
    return "; ".join(found)


def _kind(tensor: torch.Tensor) -> str:
    if tensor.is_meta:
        return "without values"
    return "quantized" if tensor.is_quantized else str(tensor.layout).removeprefix("torch.")


def differences(
    own: Mapping[str, ShapeAndDtype] | Mapping[str, torch.Tensor],
    versions: Versions,
    state: Mapping[str, torch.Tensor],
    same_names: bool = True,
) -> str:
    """Says in words why a state does not fit a module. "" if it fits.

    Args:
        own, versions: the module's own state, by name, and its versions.
        same_names: whether the state has to have all these names and no others.
    """
    found: list[str] = []
    if same_names:
        found += [f"{name} is missing" for name in own if name not in state]
        found += [f"{name} is not the module's" for name in state if name not in own]
        elsewhere = _elsewhere(own, state) if found else ""
        if elsewhere:
            return elsewhere
    for name, part in own.items():
        if name not in state:
            continue
        if state[name].shape != part.shape:
            found.append(f"{name} has shape {tuple(state[name].shape)}, and {tuple(part.shape)} in the module")
        if state[name].is_complex() and not part.dtype.is_complex:
            found.append(f"{name} is complex, and {part.dtype} in the module")
    return "; ".join([*found, *versions.misfits(state)])


def inner_states(saved: object) -> list[str]:
    """Lists under which keys a training checkpoint has a mapping of tensors, as a user writes them: `["model"]`."""
    if not isinstance(saved, Mapping):
        return []
    return [f"[{_quoted(key)}]" for key, value in saved.items() if isinstance(value, Mapping) and _is_state(value)]


def _is_state(value: Mapping[Any, Any]) -> bool:
    return bool(value) and all(isinstance(one, torch.Tensor) for one in value.values())


def _quoted(key: object) -> str:
    """Writes a key as Python reads it, in double quotes if it is a string."""
    return json.dumps(key) if isinstance(key, str) else repr(key)


def _elsewhere(own: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """Says what to do with a state whose names are the module's but for a prefix, or that is under a key. Else ""."""
    inner = [] if own.keys() & state.keys() else inner_states(state)
    if inner:
        return f"it is no mapping of tensors, and has one in it; take its {' or '.join(inner)}"
    first = next(iter(own), "")
    for prefix in {str(name).removesuffix(first) for name in state if first and str(name).endswith(f".{first}")}:
        if state.keys() == {prefix + name for name in own}:
            said = _quoted(prefix)
            return (
                f"all its names begin with {said}; take {said} off the names, as "
                f"torch.nn.modules.utils.consume_prefix_in_state_dict_if_present(state, {said}) does"
            )
    return ""


def read_names(scripted: torch.jit.ScriptModule, module: torch.nn.Module) -> StateNames:
    """Compares the state of a Python module with that of its scripted module."""
    try:
        own: dict[str, Any] = module.state_dict(keep_vars=True)
    except (Exception, SystemExit, GeneratorExit) as error:  # it may be the user's own
        return StateNames(None, f"its state_dict() raised {type(error).__name__}: {error}")
    kept: dict[str, torch.Tensor] = scripted.state_dict(keep_vars=True)
    lost = [str(name) for name, value in own.items() if kept.get(name) is not value]
    if lost:
        more = f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else ""
        why = f"TorchScript does not keep what its state_dict() has under {', '.join(lost[:_SHOWN])}{more}"
    else:
        why = next(filter(None, map(_lost_in_scripted, _scripted_parts(module))), "")
    return StateNames(frozenset(own), why, versions_of(module, own))


def note_names(scripted: torch.jit.ScriptModule, names: StateNames) -> None:
    """Writes the names of the state of an exported module into it, as far as the module itself does not show them."""
    versions = of_state(scripted.state_dict())
    own = names.versions.of_parts
    noted = {
        "hidden": [name for name in _all_tensors(scripted) if names.names is not None and name not in names.names],
        "lost": names.lost,
        "versions": {
            part: _plain(own.get(part)) for part in own.keys() | versions if own and own.get(part) != versions.get(part)
        },
        "converting": dict(names.versions.converting),
    }
    if any(noted.values()):
        setattr(scripted, STATE, json.dumps(noted))


def _noted_names(scripted: torch.jit.ScriptModule) -> StateNames:
    """Reads the names of the state of a scripted module that nobody remembers."""
    lost = _lost_in_scripted(scripted)
    if lost:
        return StateNames(None, lost)
    hidden: set[str] = set()
    converting: dict[str, str] = {}
    versions: dict[str, Mapping[str, Any] | None] = {**of_state(scripted.state_dict())}
    for path, part in scripted.named_modules(remove_duplicate=False):
        text: str = "" if is_stub(part) else getattr(part, STATE, "")
        if not text:
            continue
        noted, dot = json.loads(text), path and f"{path}."
        hidden.update(f"{dot}{name}" for name in noted["hidden"])
        lost = lost or noted["lost"]
        versions |= {f"{dot}{name}" if name else path: version for name, version in noted["versions"].items()}
        converting |= {f"{dot}{name}" if name else path: by for name, by in noted["converting"].items()}
    names = frozenset(scripted.state_dict().keys() - hidden) if hidden else None
    known = {name: version for name, version in versions.items() if version is not None}
    return StateNames(names, lost, Versions(known, converting))


def _all_tensors(module: torch.nn.Module) -> list[str]:
    """Lists the names of a module's parameters and buffers."""
    tensors = (
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    )
    return [name for name, _ in tensors]


def _plain(version: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Returns what text can have of a part's version. None: the state has no such part."""
    if version is None:
        return None
    return {name: value for name, value in version.items() if isinstance(value, (bool, int, float, str))}


def _scripted_parts(module: torch.nn.Module) -> Iterator[torch.jit.ScriptModule]:
    """Yields the parts of a Python module that were scripted before it was."""
    for part in module.children():
        if isinstance(part, torch.jit.ScriptModule):
            yield part
        else:
            yield from _scripted_parts(part)


def _lost_in_scripted(module: torch.jit.ScriptModule, name: str = "") -> str:
    """Words what a scripted module shows to have beside its parameters and buffers. "" if it shows nothing."""
    if is_stub(module):
        return ""  # its module is elsewhere
    of = f"its part {name}" if name else "it"
    if _torch.is_frozen(module):
        return f"{of} was frozen, which makes its parameters a part of its code"
    for attribute, kind in _torch.custom_objects(module):
        return f"{of} keeps {attribute}, a {kind}, which is no tensor"
    for key, part in module.named_children():
        if isinstance(part, torch.jit.ScriptModule):
            lost = _lost_in_scripted(part, f"{name}.{key}" if name else key)
            if lost:
                return lost
    return ""
