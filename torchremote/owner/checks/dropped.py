"""Finds what belongs to a module and what scripting would drop, or get wrong, without a word.

Note [What scripting drops]
    TorchScript compiles the source of methods. It sees through a decorator to the function inside, so what the
    decorator does is lost: `@torch.no_grad()`, or anything with functools.wraps. It compiles forward hooks of a module,
    but runs them only where another scripted method calls the module, and a remote call is no such place. It knows no
    backward hooks. It compiles parametrized modules to code that raises. All this is refused, with the remedy:
    torch.export traces what Python does, and so has it in its graphs.
"""

from __future__ import annotations

import ast
import copy
import inspect
import itertools
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from ... import _torch
from ...errors import CreationError, MismatchError
from ...jit.read.shown import repr_of
from .norms import keeping_norms
from .source import source_of

REMEDY = "give examples= of its arguments, and torch.export may capture it as it is"


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


def checked_module(module: object, name: str) -> torch.nn.Module:
    """Returns `module`, or raises MismatchError if it is none. `name`: that of the interface."""
    if isinstance(module, torch.nn.Module):
        return module
    remedy = "what is hosted has to be one"
    if isinstance(module, type) and issubclass(module, torch.nn.Module):
        remedy = f"pass an object of the class, as {module.__name__}(...)"
    raise MismatchError(f"{name}: {repr_of(module)} is not a torch.nn.Module; {remedy}")


def check_whole(module: nn.Module) -> None:
    """Raises CreationError for a parameter or buffer of which this process has a part. No call could use it."""
    distributed: Any = sys.modules.get("torch.distributed.tensor")  # who has such a tensor has imported it
    kind = getattr(distributed, "DTensor", ())
    for name, tensor in itertools.chain(nn.Module.named_parameters(module), nn.Module.named_buffers(module)):
        if isinstance(tensor, kind):
            raise CreationError(
                f"{type(module).__name__}: {name} is a DTensor, of which each process has a part; host a module with "
                "whole ones, as .full_tensor() gives them"
            )


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


def check_decorators(module: nn.Module, scripted: torch.jit.ScriptModule) -> None:
    """Refuses a module if scripting dropped a decorator of a method or function that it compiled.

    Raises:
        CreationError: it did. The message names the function.
    """
    for part, compiled in _pairs(module, scripted):
        for name in _torch.method_names(compiled):
            function = inspect.getattr_static(type(part), name, None)
            function = vars(part).get(name, function)
            if isinstance(function, classmethod) and isinstance(function.__func__, types.FunctionType):
                _check_class_values(part, function.__func__)
            _check_decorator(function, f"{type(part).__name__}.{name}")
    for function in _torch.functions_in(scripted):
        _check_decorator(function, getattr(function, "__qualname__", str(function)))


def _check_class_values(part: nn.Module, function: types.FunctionType) -> None:
    """Refuses a class method that reads a value of the class where the module has another one."""
    source = source_of(function)
    first = source.arguments[0].arg if source.arguments else ""
    own = {**vars(part), **part._parameters, **part._buffers, **part._modules}
    for node in source.nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == first:
            of_class = inspect.getattr_static(type(part), node.attr, own.get(node.attr))
            if node.attr in own and of_class is not own[node.attr] and repr(of_class) != repr(own[node.attr]):
                raise CreationError(
                    f"{function.__qualname__} is a class method and reads {first}.{node.attr}, which is "
                    f"{repr_of(of_class)} of the class; TorchScript would read the module's, which is "
                    f"{repr_of(own[node.attr])}; give one of the "
                    "two another name"
                )


def _check_decorator(function: Any, name: str) -> None:
    if isinstance(function, (classmethod, staticmethod)):  # which have a `__wrapped__` of their own
        function = function.__func__
    module = getattr(function, "__module__", None) or ""
    if hasattr(function, "__wrapped__") and not module.startswith("torch.") and not _torch.is_traced_only(function):
        raise CreationError(
            f"{name} is wrapped by a decorator, which TorchScript drops: it compiles the function inside; {REMEDY}, or "
            "do in the function what the decorator does, as in `with torch.no_grad():`"
        )


def _pairs(module: nn.Module, scripted: torch.jit.ScriptModule) -> Iterator[tuple[nn.Module, torch.jit.ScriptModule]]:
    """Yields a module with its scripted module, and the same for its parts."""
    yield module, scripted
    for name, part in module.named_children():
        compiled = getattr(scripted, name, None)
        if isinstance(compiled, torch.jit.ScriptModule) and not isinstance(part, torch.jit.ScriptModule):
            yield from _pairs(part, compiled)
