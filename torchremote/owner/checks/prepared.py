"""Finds the module that is scripted in the place of the user's."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from ... import _torch
from ...errors import MismatchError
from ...jit.read.shown import repr_of
from .norms import keeping_norms


def checked_module(module: object, name: str) -> nn.Module:
    """Returns `module`, or raises MismatchError if it is none. `name`: that of the interface."""
    if isinstance(module, nn.Module):
        return module
    remedy = "what is hosted has to be one"
    if isinstance(module, type) and issubclass(module, nn.Module):
        remedy = f"pass an object of the class, as {module.__name__}(...)"
    raise MismatchError(f"{name}: {repr_of(module)} is not a torch.nn.Module; {remedy}")


def prepared(module: nn.Module) -> nn.Module:
    """Returns the module that is scripted in the place of `module`.

    This is the original of one that torch.compile made, and what `__prepare_scriptable__` gives, of parts too. For
    embeddings with a norm see norms.py. `module` itself is not changed.
    """
    found: nn.Module = _prepared(_torch.not_compiled(module), {})
    return found


def _prepared(module: nn.Module, known: dict[int, tuple[nn.Module, Any]]) -> Any:
    """Does as `prepared`. `known`: what is scripted in the place of each, by its id.

    It has the module too: while it lives, nobody else gets its id.
    """
    if isinstance(module, torch.jit.ScriptModule):
        return module
    if id(module) in known:
        return known[id(module)][1]
    prepare = getattr(module, "__prepare_scriptable__", None)
    found: Any = keeping_norms(module) if prepare is None else prepare()
    known[id(module)] = module, found
    if not isinstance(found, nn.Module):
        raise MismatchError(
            f"{type(module).__name__}.__prepare_scriptable__ returns {repr_of(found)}, which is no module"
        )
    # A module may be false, by a `__len__` of its own.
    parts = {name: part if part is None else _prepared(part, known) for name, part in found._modules.items()}
    if any(part is not found._modules[name] for name, part in parts.items()):
        found = copy.copy(found)  # the user may hold it
        known[id(module)] = module, found
        found.__dict__["_modules"] = parts
    return found
