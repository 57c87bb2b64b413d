"""Refuses a part that stands under two names of a module and changes itself.

Note [Parts with two names]
    TorchScript makes a module of each name. They share parameters and buffers, but not what a method assigns, such as a
    counter or a hidden state. So an encoder of an actor and a critic that keeps a state would have two. Tensors that
    are changed in place stay one.
"""

from __future__ import annotations

import torch

from ...errors import CreationError
from .self_changing import change_of


def check_shared(module: torch.nn.Module, scripted: torch.jit.ScriptModule) -> None:
    """Raises CreationError for such a part, with its names and what changes. `scripted`: made of `module`."""
    names: dict[torch.nn.Module, list[str]] = {}
    for name, part in module.named_modules(remove_duplicate=False):
        names.setdefault(part, []).append(name)
    made = dict(scripted.named_modules(remove_duplicate=False))
    for part, paths in names.items():
        one = made.get(paths[0])
        if len(paths) == 1 or isinstance(part, torch.jit.ScriptModule) or not isinstance(one, torch.jit.ScriptModule):
            continue
        change = change_of(one)
        if change is not None:
            raise CreationError(
                f"{type(module).__name__}: {paths[0]} and {paths[1]} are one {type(part).__name__}, of which "
                f"TorchScript makes two, and its {change}: each would have its own; change a tensor in place, as with "
                "copy_, or give the module one name for it"
            )
