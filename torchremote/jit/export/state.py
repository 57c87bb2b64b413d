"""Compares what a module has beside its tensors before and after a method is traced, and puts back what changed.

torch.export puts back the attributes that a module changes while it is traced, and says nothing. It does not look into
lists, dicts and objects, nor at the values of tensors that are neither parameters nor buffers.
"""

from __future__ import annotations

import collections
import copy
import types
from typing import Any, Final

import torch
from torch import nn

_OWN: Final = frozenset(vars(nn.Module())) - {"training"}
_CONTAINERS: Final = (list, dict, set, collections.deque)
_DEEPEST: Final = 8
_CODE: Final = (type, types.ModuleType, types.FunctionType, types.MethodType, types.BuiltinFunctionType, nn.Module)
_APART: Final = ("torch", "logging", "threading", "_thread", "weakref", "enum", "functools")  # libraries of these


class State:
    """The attributes of a module and its parts, and what is in them.

    Args:
        traced: torch.export traces what this does. Then the values of tensors can be neither kept nor put back.
    """

    def __init__(self, module: nn.Module, traced: bool) -> None:
        self._module = module
        self._traced = traced
        self._attributes = _attributes(module)
        self._containers: list[tuple[str, Any, Any]] = []  # the attribute, the container, and a copy
        self._tensors: list[tuple[str, torch.Tensor, torch.Tensor, int]] = []  # with a copy, and its version
        self._seen: set[int] = {id(buffer) for buffer in module.buffers()}
        self._classes = _of_classes(module)
        for name, value in self._attributes.items():
            self._walk(name, value, 0)
        for kind, name, value in self._classes:
            self._walk(f"{kind.__name__}.{name}", value, 0)

    def _walk(self, name: str, value: Any, depth: int) -> None:
        if isinstance(value, types.FunctionType) and depth == 0:
            for default in _defaults_of(value):
                self._walk(name, default, 1)
        if id(value) in self._seen or depth > _DEEPEST or isinstance(value, (*_CODE, nn.Parameter)):
            return
        self._seen.add(id(value))
        if isinstance(value, torch.Tensor):
            self._tensors.append((name, value, value if self._traced else value.detach().clone(), value._version))
        elif isinstance(value, _CONTAINERS):
            self._containers.append((name, value, copy.copy(value)))
            for item in list(value.values() if isinstance(value, dict) else value):
                self._walk(name, item, depth + 1)
        elif isinstance(value, tuple):
            for item in value:
                self._walk(name, item, depth + 1)
        elif isinstance(fields := getattr(value, "__dict__", None), dict) and _root_of(type(value)) not in _APART:
            self._containers.append((name, fields, copy.copy(fields)))
            for item in list(fields.values()):
                self._walk(name, item, depth + 1)

    def changed(self) -> str | None:
        """Returns the name of an attribute that changed, or has something in it that did. Puts back what is in it."""
        names = [
            name for name, value in _attributes(self._module).items() if not _same(self._attributes.get(name), value)
        ]
        for kind, name, value in self._classes:
            if not _same(vars(kind).get(name), value):
                names.append(f"{kind.__name__}.{name}")
                setattr(kind, name, value)
        for name, container, kept in self._containers:
            if not _same(container, kept):
                names.append(name)
                _refill(container, kept)
        for name, tensor, kept, version in self._tensors:
            if tensor._version != version:
                names.append(name)
                if not self._traced:
                    with torch.no_grad():
                        tensor.copy_(kept)
        return names[0] if names else None


def _refill(container: Any, kept: Any) -> None:
    container.clear()
    if isinstance(container, (dict, set)):
        container.update(kept)
    else:
        container.extend(kept)


def _root_of(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Returns what a module and its parts have beside parameters, buffers and parts."""
    found: dict[str, Any] = {}
    for prefix, part in module.named_modules():
        if isinstance(part, nn.RNNBase):
            continue  # it keeps a list of its parameters, and makes it anew
        dotted = f"{prefix}." if prefix else ""
        hooks = part._forward_pre_hooks.values()
        # torch's own hooks compute these anew in every call: weight_norm, spectral_norm and those that prune.
        torchs = [hook for hook in hooks if type(hook).__module__.startswith("torch.nn.utils.")]
        computed = {getattr(hook, "name", getattr(hook, "_tensor_name", None)) for hook in torchs}
        for name, value in vars(part).items():
            if name not in _OWN and name not in computed:
                found[dotted + name] = value
        found |= {dotted + name: parameter for name, parameter in part._parameters.items()}
    return found


def _of_classes(module: nn.Module) -> list[tuple[type, str, Any]]:
    """Returns the numbers, texts, tensors and containers that the classes of a module and its parts have.

    A method is there if a default of it is a container.
    """
    kinds = {kind for part in module.modules() for kind in type(part).__mro__ if _root_of(kind) not in _APART}
    found: list[tuple[type, str, Any]] = []
    for kind in kinds - {object}:
        for name, value in vars(kind).items():
            if isinstance(value, types.FunctionType):
                kept = any(isinstance(one, _CONTAINERS) for one in _defaults_of(value))
                found += [(kind, name, value)] if kept else []
            elif not name.startswith("__") and isinstance(value, (int, float, str, tuple, torch.Tensor, *_CONTAINERS)):
                found.append((kind, name, value))
    return found


def _defaults_of(function: types.FunctionType) -> tuple[Any, ...]:
    return (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())


def _same(one: Any, other: Any) -> bool:
    if one is other:  # nan, too
        return True
    if isinstance(one, (list, tuple, collections.deque)) and type(one) is type(other):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(map(_same, one.values(), other.values()))
    if isinstance(one, (int, float, str, set)) and type(one) is type(other):
        return bool(one == other)
    # An object's method is a new object each time.
    return isinstance(one, (torch.Size, torch.dtype, torch.device, types.MethodType)) and bool(one == other)
