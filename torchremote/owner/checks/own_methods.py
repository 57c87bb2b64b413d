"""Refuses methods that one object has, classes with a way of their own to be called, and values of a class.

Note [Methods of one object]
    TorchScript makes one type of all modules of a class whose attributes are alike, and does not count a bound method
    among these. So after `m.forward = types.MethodType(negated, m)`, the first module of the class that is scripted
    decides for all others, also for those of other callers. A method that a module calls is that of the class. A plain
    function in the place of a method is part of the type, and right.

    A part's own `__call__` is not compiled: TorchScript calls forward. Nor are `__iter__`, `__getitem__` and the
    like of a class that is derived from one of torch's containers. A class method reads `cls.scale` of the module.
"""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Iterable, Iterator
from typing import Final

import torch
from torch import nn

from ... import _torch
from ...errors import CreationError
from ...jit.read.shown import repr_of
from .remedies import REMEDY
from .source import Source, source_of

_CONTAINERS: Final = (nn.ModuleList, nn.ModuleDict, nn.Sequential)
_ITERATING: Final = tuple("__iter__ __reversed__ __getitem__ __len__ __contains__ keys values items".split())


def check_methods(module: nn.Module, methods: Iterable[str]) -> None:
    """Raises CreationError for such a method of a module or a part, with what to write.

    Args:
        methods: those of the interface.
    """
    wanted = set(methods)
    for path, part in _scripted(module, "", set()):
        cls = type(part)
        of = f"{type(module).__name__}'s part {path}, of class {cls.__name__}," if path else cls.__name__
        for name, value in vars(part).items():
            is_compiled = name == "forward" or (hasattr(cls, name) and not hasattr(nn.Module, name))
            if inspect.ismethod(value) and (is_compiled or (part is module and name in wanted)):
                raise CreationError(
                    f"{of} has a {name} of its own, set on the object ({value.__func__.__qualname__}); TorchScript "
                    f"would take that of one object for all of the class, or leave it out; write a subclass that has "
                    f"it, or choose inside of {name}, or {REMEDY}"
                )
        is_called = cls.forward is not nn.Module.forward and (part is not module or "forward" in wanted)
        if is_called and _is_own(cls, "__call__", nn.Module):
            raise CreationError(
                f"{of} has a __call__ of its own, which TorchScript leaves out: it calls forward; do in forward what "
                f"__call__ does, or {REMEDY}"
            )
        container = next((base for base in _CONTAINERS if issubclass(cls, base)), None)
        own = next((name for name in _ITERATING if container is not None and _is_own(cls, name, container)), None)
        if own is not None:
            raise CreationError(
                f"{of} has a {own} of its own, which TorchScript leaves out: it goes over the parts in their order; "
                f"put them into the order that is wanted, or {REMEDY}"
            )


def _scripted(module: nn.Module, path: str, seen: set[nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """Yields the parts that TorchScript would compile, with their paths: not those that are scripted already."""
    if isinstance(module, torch.jit.ScriptModule) or module in seen:
        return
    seen.add(module)
    yield path, module
    for name, part in module._modules.items():
        if part is not None:
            yield from _scripted(part, f"{path}.{name}".removeprefix("."), seen)


def _is_own(cls: type, name: str, base: type) -> bool:
    """Says whether a class has a method in the place of that of `base`, a class of torch, and does more in it."""
    function = getattr(cls, name, None)
    if function is getattr(base, name, None) or (getattr(function, "__module__", None) or "").startswith("torch."):
        return False  # torch.fx has a `__call__`, which words errors
    return not (isinstance(function, types.FunctionType) and _hands_on(Source(function), name))


def _hands_on(source: Source, name: str) -> bool:
    """Says whether a method only hands its arguments on, as one that is there for its annotations does."""
    statements = [node for node in source.nodes if isinstance(node, ast.stmt)]
    if statements and isinstance(statements[0], ast.Expr) and isinstance(statements[0].value, ast.Constant):
        del statements[0]
    match statements:
        case [ast.Return(value=ast.Call(func=ast.Attribute(value=of, attr=called), args=given, keywords=named))]:
            names = [one.id for one in given if isinstance(one, ast.Name)]
            starred = [one for one in given if isinstance(one, ast.Starred)]
            expected = [argument.arg for argument in source.arguments[isinstance(of, ast.Call) :]]  # super() has self
            return (
                called == name
                and len(names) + len(starred) == len(given)
                and names == expected[: len(names)]
                and all(one.arg is None or ast.unparse(one.value) == one.arg for one in named)
            )
    return False


def check_class_methods(module: nn.Module, scripted: torch.jit.ScriptModule) -> None:
    """Raises CreationError for a compiled class method that reads a value that the module has in another way."""
    for part, _, function in compiled_methods(module, scripted):
        if isinstance(function, classmethod) and isinstance(function.__func__, types.FunctionType):
            _check_class_values(part, function.__func__)


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


def compiled_methods(module: nn.Module, scripted: torch.jit.ScriptModule) -> Iterator[tuple[nn.Module, str, object]]:
    """Yields the methods that were compiled of a module and its parts, as they are in the class or on the object."""
    for name in _torch.method_names(scripted):
        yield module, name, vars(module).get(name, inspect.getattr_static(type(module), name, None))
    for name, part in module.named_children():
        compiled = getattr(scripted, name, None)
        if isinstance(compiled, torch.jit.ScriptModule) and not isinstance(part, torch.jit.ScriptModule):
            yield from compiled_methods(part, compiled)
