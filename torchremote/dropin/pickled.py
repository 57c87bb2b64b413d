"""Makes remote modules without an interface from references, and says how RPC sends them."""

from __future__ import annotations

from typing import Any, Final

import torch

from .. import _torch
from .._torch import PyRRef
from .place import ModulePlace
from .without_interface import _generated_methods

_REMOTE_MODULE_PICKLED_ATTRIBUTES: Final = (
    "on",
    "device",
    "is_device_map_set",
    "is_scriptable",
    "generated_methods",
    "module_rref",
)
"""The attributes as which such a module is sent. One that was received has them, and its methods."""


def refer(module: Any, place: ModulePlace, module_rref: PyRRef[Any]) -> None:
    """Has `module` call the module that `module_rref` refers to."""
    _set(module, (place.on, place.device, place.is_device_map_set, False, _generated_methods, module_rref))


def reduce_for_rpc(module: Any) -> tuple[Any, ...]:
    """Takes a module apart for RPC's pickler."""
    return rebuild, (type(module), *(module.__dict__[name] for name in _REMOTE_MODULE_PICKLED_ATTRIBUTES))


def rebuild(cls: type[torch.nn.Module], *values: Any) -> torch.nn.Module:
    """Makes the module again on the worker that receives it."""
    module = cls.__new__(cls)
    _set(module, values)
    functions = module.__dict__["generated_methods"]
    module.__dict__.update((function.__name__, function) for function in functions)  # as torch's has
    return module


def _set(module: torch.nn.Module, values: tuple[Any, ...]) -> None:
    """Gives a module the attributes as which it is sent."""
    module.__dict__.update(zip(_REMOTE_MODULE_PICKLED_ATTRIBUTES, values, strict=True))
    _torch.keep_in_forks(module.__dict__["module_rref"])
