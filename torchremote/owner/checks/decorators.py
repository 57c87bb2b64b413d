"""Refuses decorators of methods and functions, which scripting drops.

Note [Decorators]
    TorchScript compiles the source of methods. It sees through a decorator to the function inside, so what the
    decorator does is lost: `@torch.no_grad()`, or anything with functools.wraps. torch.export traces what Python does,
    and so has it in its graphs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ... import _torch
from ...errors import CreationError
from .own_methods import compiled_methods
from .remedies import REMEDY


def check_decorators(module: nn.Module, scripted: torch.jit.ScriptModule) -> None:
    """Refuses a module if scripting dropped a decorator of a method or function that it compiled.

    Raises:
        CreationError: it did. The message names the function.
    """
    for part, name, function in compiled_methods(module, scripted):
        _check_decorator(function, f"{type(part).__name__}.{name}")
    for function in _torch.functions_in(scripted):
        _check_decorator(function, getattr(function, "__qualname__", str(function)))


def _check_decorator(function: Any, name: str) -> None:
    if isinstance(function, (classmethod, staticmethod)):  # which have a `__wrapped__` of their own
        function = function.__func__
    module = getattr(function, "__module__", None) or ""
    if hasattr(function, "__wrapped__") and not module.startswith("torch.") and not _torch.is_traced_only(function):
        raise CreationError(
            f"{name} is wrapped by a decorator, which TorchScript drops: it compiles the function inside; {REMEDY}, or "
            "do in the function what the decorator does, as in `with torch.no_grad():`"
        )
