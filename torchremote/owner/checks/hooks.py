"""Refuses hooks that scripting drops or cannot compile, and parametrizations.

Note [Hooks of scripted modules]
    TorchScript compiles forward hooks of a module, but runs them only where another scripted method calls the module,
    and a remote call is no such place. It knows no backward hooks. It compiles parametrized modules to code that
    raises. torch.export traces what Python does, and so has forward hooks and parametrizations in its graphs.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable

from torch import nn
from torch.nn.utils import parametrize

from ...errors import CreationError
from .remedies import REMEDY


def check_before(module: nn.Module, methods: Iterable[str]) -> None:
    """Refuses a module of which scripting would drop hooks, or which it would get wrong.

    Raises:
        CreationError: it has such. The message says what, and what to do.
    """
    check_backward_hooks(module)
    cls = type(module).__name__
    if "forward" in methods:
        check_hooks(module)
    for name, part in module.named_modules():
        of = f"{cls}'s part {name}" if name else cls
        if parametrize.is_parametrized(part):
            raise CreationError(
                f"{of} is parametrized, which TorchScript cannot run; {REMEDY}, or call "
                "torch.nn.utils.parametrize.remove_parametrizations first"
            )
        for hook in part._forward_pre_hooks.values():
            if not inspect.isroutine(hook):
                kind = type(hook).__name__
                raise CreationError(
                    f"{of} has a forward pre-hook of class {kind}, which TorchScript cannot compile; {REMEDY}, or "
                    "remove it first, as remove_weight_norm and remove_spectral_norm do"
                )


def check_hooks(module: nn.Module) -> None:
    """Raises CreationError if calls of a module's forward run hooks, which a call of a scripted module would not."""
    if module._forward_hooks or module._forward_pre_hooks:
        which = "hook" if module._forward_hooks else "pre-hook"
        raise CreationError(
            f"{type(module).__name__} has a forward {which}, which a remote call of its scripted forward would not "
            f"run; {REMEDY}, or host a module that has this one as a part and calls it"
        )


def check_backward_hooks(module: nn.Module) -> None:
    """Raises CreationError if a module or a part has backward hooks, which run in Python."""
    for name, part in module.named_modules():
        if part._backward_hooks or part._backward_pre_hooks:
            of = f"{type(module).__name__}'s part {name}" if name else type(module).__name__
            raise CreationError(
                f"{of} has a backward hook, which runs in Python, and hosted modules run without it; remove it, or "
                "do what it does in an autograd operator of the method"
            )
