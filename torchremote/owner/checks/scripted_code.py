"""Finds the source of all that scripting a module would compile, for checks before it does.

That is the module's methods, those of its parts, and the methods, functions and classes that they refer to. What has no
source is left out, and so is the code of torch and of Python, and branches that TorchScript does not compile.
"""

from __future__ import annotations

import ast
import builtins
import enum
import inspect
import os
import re
import sysconfig
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import torch

from ... import _torch
from ...errors import CreationError
from .source import Source, source_of

_OWN: Final = frozenset(vars(torch.nn.Module()))
_THEIRS: Final = frozenset("torch torchremote typing builtins abc enum collections dataclasses functools".split())
_PYTHONS: Final = sysconfig.get_path("stdlib") + os.sep
_INSTALLED: Final = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), _PYTHONS + "site-packages")


def code_of(module: torch.nn.Module, methods: Iterable[str]) -> Iterator[Code]:
    """Yields each function that scripting `module` with `methods` would compile, once for each module that has it."""
    search = _CodeSearch()
    search.add_module(module, methods)
    while search.waiting:
        yield search.read(*search.waiting.pop())


@dataclass(frozen=True)
class Code:
    """One function that TorchScript would compile, for one module."""

    function: types.FunctionType
    source: Source
    local: dict[str, list[torch.nn.Module]]  # the modules that each local name may be

    def place(self, node: ast.AST) -> str:
        """Names the function, and the line of a part of it."""
        code = self.function.__code__
        line = code.co_firstlineno + getattr(node, "lineno", 1) - 1
        return f"{self.function.__qualname__} ({code.co_filename}:{line})"

    def refusal(self, node: ast.AST, words: str) -> CreationError:
        """Makes the error for a part of the function. `words`: what of it is wrong, and what to write."""
        return CreationError(f"{self.place(node)}: `{ast.unparse(node)}` {words}")

    def value(self, expression: ast.expr) -> object:
        """Returns what a global name or an attribute of a module has when the module is scripted. None if unknown.

        For an item of a list, tuple or dict, it is that item, or another one of it.
        """
        if isinstance(expression, ast.Subscript):
            return _item_of(self.value(expression.value), expression.slice)
        if isinstance(expression, ast.Attribute) and not any(isinstance(one, ast.Call) for one in ast.walk(expression)):
            for module in _modules_of(expression.value, self.local):
                tensor = module._buffers.get(expression.attr, module._parameters.get(expression.attr))
                found = inspect.getattr_static(module, expression.attr, tensor)
                if found is not None:
                    return found
        code = self.function.__code__
        is_local = isinstance(expression, ast.Name) and expression.id in (*code.co_varnames, *code.co_cellvars)
        return None if is_local else _named(self.function, expression)

    def names(
        self, declares: Callable[[ast.expr | None], bool], gives: Callable[[ast.expr, set[str]], bool]
    ) -> set[str]:
        """Returns the local names of values of some kind.

        Args:
            declares: says whether an annotation means that kind.
            gives: says whether an expression is of that kind, if these names are.
        """
        found = {argument.arg for argument in self.source.arguments if declares(argument.annotation)}
        for node in self.source.nodes:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and declares(node.annotation):
                found.add(node.target.id)
        while True:  # a value may be used before the line that gives it, in a loop
            known = len(found)
            for target, value, loops in self.source.given:
                if isinstance(target, ast.Name) and gives(any_item(value) if loops else value, found):
                    found.add(target.id)
            if len(found) == known:
                return found

    def called(self, function: ast.expr) -> tuple[Code, list[ast.arg]] | None:
        """Returns the code of a function that is called, or of a part's forward, with its arguments but for `self`.

        None if it is not the user's, as far as is known. Of the names in it, `self` alone is known to be a module.
        """
        found = self.value(function)
        modules = _modules_of(function.value, self.local) if isinstance(function, ast.Attribute) else []
        for module in _modules_of(function, self.local):
            found, modules = inspect.getattr_static(type(module), "forward", None), [module]
        if isinstance(found, (staticmethod, classmethod)):
            found, modules = found.__func__, []
        if not isinstance(found, types.FunctionType) or _is_theirs(found):
            return None
        source = source_of(found)
        arguments = source.arguments[1:] if modules else source.arguments
        local = {source.arguments[0].arg: modules} if modules and source.arguments else {}
        return Code(found, source, local), arguments

    def modules(self, expression: ast.expr, *, scripted: bool = False) -> list[torch.nn.Module]:
        """Lists the modules that an expression may be. `scripted`: also those that are scripted already."""
        return _modules_of(expression, self.local, scripted)

    @property
    def declared(self) -> str:
        """Says in words what the function declares to return: "a tensor", "no tensor", or "" if unknown."""
        returns = self.source.returns
        if returns is None:
            return ""
        if torch.Tensor in self.alternatives(returns):
            return "a tensor"
        return "no tensor" if _WITHOUT.issuperset(re.findall(r"\w+", ast.unparse(returns))) else ""

    def item_types(self, annotation: ast.expr | None) -> list[object]:
        """Lists the types of the items of a list or dict, if an annotation means one."""
        if not isinstance(annotation, ast.Subscript) or _named(self.function, annotation.value) not in _CONTAINERS:
            return []
        return self.alternatives(
            annotation.slice.elts[-1] if isinstance(annotation.slice, ast.Tuple) else annotation.slice
        )

    def alternatives(self, annotation: ast.expr | None) -> list[object]:
        """Lists the types that an annotation allows: its own, or those of an Optional or a Union."""
        inside: list[ast.expr] = []
        if isinstance(annotation, ast.BinOp):
            inside = [annotation.left, annotation.right]
        elif isinstance(annotation, ast.Subscript) and _named(self.function, annotation.value) in _UNIONS:
            inside = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        if inside:
            return [found for one in inside for found in self.alternatives(one)]
        found = _named(self.function, annotation)
        is_union = typing.get_origin(found) in (typing.Union, types.UnionType)  # another name of one
        return list(typing.get_args(found)) if is_union else [found]


_GIVE_PARTS: Final = frozenset("children items modules named_children named_modules values".split())
_UNIONS: Final = (typing.Optional, typing.Union)
_CONTAINERS: Final = (typing.List, typing.Dict, list, dict)
_WITHOUT: Final = frozenset("typing List list Dict dict Tuple tuple Optional Union None int float bool str".split())
"""The words of annotations that mean no tensor."""


def any_item(value: ast.expr) -> ast.expr:
    """Writes what stands for any item of a value."""
    return ast.Subscript(value, ast.Constant(0), ast.Load())


def _item_of(holder: object, index: ast.expr) -> object:
    """Returns the item of a container at an index, or any if the index is not written out. None if there is none."""
    if isinstance(holder, dict):
        return next(iter(holder.values()), None)
    if not isinstance(holder, (list, tuple)) or not holder or isinstance(index, ast.Slice):
        return None
    position = index.value if isinstance(index, ast.Constant) and isinstance(index.value, int) else 0
    return holder[position if position < len(holder) else 0]


def _named(function: types.FunctionType, expression: ast.expr | None) -> object:
    """Returns what a name means in a function, dotted or not. None if it is not known."""
    if isinstance(expression, ast.Attribute):
        holder = _named(function, expression.value)
        if isinstance(holder, enum.EnumMeta) and expression.attr in holder.__members__:
            return holder.__members__[expression.attr]
        is_static = isinstance(holder, (types.ModuleType, type))
        found = inspect.getattr_static(holder, expression.attr, None) if is_static else None
        return found.__func__ if isinstance(found, staticmethod) else found
    if not isinstance(expression, ast.Name):
        return None
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))
    if expression.id in cells:
        try:
            return cells[expression.id].cell_contents
        except ValueError:  # it is not set yet
            return None
    return function.__globals__.get(expression.id, vars(builtins).get(expression.id))


class _CodeSearch:
    """Walks through all that scripting a module would compile."""

    def __init__(self) -> None:
        self.waiting: list[tuple[types.FunctionType, torch.nn.Module | None]] = []
        self._seen: set[tuple[object, int]] = set()

    def add_module(self, module: torch.nn.Module, methods: Iterable[str] = ("forward",)) -> None:
        """Adds what is compiled of a module and its parts, whoever calls it."""
        if not self._is_new(module):
            return
        unused = {*getattr(module, "__jit_unused_properties__", ()), *getattr(module, "__jit_ignored_attributes__", ())}
        for name, member in _members(type(module)):
            if name in methods or (isinstance(member, property) and name not in unused) or _torch.is_exported(member):
                self._add(member, module)
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values()):
            self._add(hook, module)
        for name, value in vars(module).items():
            if name not in _OWN:
                self._add(value, None)
                if _is_scriptable(type(value)):
                    self._add_class(type(value))
        for part in _parts(module).values():
            self.add_module(part)

    def read(self, function: types.FunctionType, module: torch.nn.Module | None) -> Code:
        """Reads a function, and adds what it refers to."""
        found = source_of(function)
        local = {found.arguments[0].arg: [module]} if module is not None and found.arguments else {}
        for target, value, loops in found.given * 2:  # a loop may use what is assigned below it
            modules = _modules_of(value, local)
            if loops:
                modules = [part for one in modules for part in _parts(one).values()]
            for name in ast.walk(target) if modules else ():
                if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                    known = local.setdefault(name.id, [])
                    known += [one for one in modules if not any(one is other for other in known)]
        for node in found.nodes:
            if isinstance(node, ast.Attribute):
                for one in _modules_of(node.value, local):
                    self._add(inspect.getattr_static(type(one), node.attr, None), one)
            if isinstance(node, (ast.Attribute, ast.Name)) and isinstance(node.ctx, ast.Load):
                named = _named(function, node)
                self._add(named, None)
                if isinstance(named, type) and _is_scriptable(named):
                    self._add_class(named)
        return Code(function, found, local)

    def _add_class(self, cls: type) -> None:
        """Adds the methods of a class that TorchScript would compile."""
        if self._is_new(cls):
            for member in vars(cls).values():
                self._add(member, None)

    def _add(self, member: object, module: torch.nn.Module | None) -> None:
        """Adds a function, or the functions of a method or property."""
        if isinstance(member, property):
            self._add(member.fget, module)
            self._add(member.fset, module)
            return
        function = member.__func__ if isinstance(member, (staticmethod, classmethod)) else member
        if isinstance(function, types.FunctionType) and not _torch.is_ignored(function):
            function = inspect.unwrap(function)
            if isinstance(function, types.FunctionType) and not _is_theirs(function) and self._is_new(function, module):
                self.waiting.append((function, None if isinstance(member, (staticmethod, classmethod)) else module))

    def _is_new(self, what: object, of: object = None) -> bool:
        """Says whether something is seen for the first time, and remembers it."""
        key = (id(what), id(of))
        new = key not in self._seen
        self._seen.add(key)
        return new


def _parts(module: torch.nn.Module, scripted: bool = False) -> dict[str, torch.nn.Module]:
    """Returns the parts of a module by name. Those that are scripted already, as stubs are, only with `scripted`."""
    parts = {name: part for name, part in module._modules.items() if part is not None}
    return {name: part for name, part in parts.items() if scripted or not isinstance(part, torch.jit.ScriptModule)}


def _modules_of(
    expression: ast.expr, local: dict[str, list[torch.nn.Module]], scripted: bool = False
) -> list[torch.nn.Module]:
    """Does as `Code.modules`. `local`: the modules that each local name may be."""
    match expression:
        case ast.Name(name):
            return local.get(name, [])
        case (
            ast.Attribute(value=holder, attr=name)
            | ast.Call(func=ast.Name("getattr"), args=[holder, ast.Constant(value=str(name)), *_])
        ):
            parts = (_parts(one, scripted).get(name) for one in _modules_of(holder, local, scripted))
            return [part for part in parts if part is not None]
        case ast.Subscript(value=holder):
            return [part for one in _modules_of(holder, local, scripted) for part in _parts(one, scripted).values()]
        # TorchScript knows no other calls that give modules
        case ast.Call(func=ast.Name("enumerate" | "reversed" | "zip"), args=arguments):
            return [one for argument in arguments for one in _modules_of(argument, local, scripted)]
        case ast.Call(func=ast.Attribute(value=holder, attr=name)) if name in _GIVE_PARTS:
            return _modules_of(holder, local, scripted)
    return []


def _members(cls: type) -> Iterator[tuple[str, object]]:
    """Yields what a class and its bases define, but for those of libraries."""
    seen: set[str] = set()
    for base in cls.__mro__:
        members = {} if _is_theirs(base) else vars(base)
        yield from ((name, member) for name, member in members.items() if name not in seen)
        seen |= members.keys()


def _is_theirs(what: type | types.FunctionType) -> bool:
    """Says whether something is of a library that is not searched: torch, ours, or one that comes with Python."""
    if isinstance(what, types.FunctionType):
        file = what.__code__.co_filename
        if file.startswith(_PYTHONS) and not file.startswith(_INSTALLED):
            return True
    return (what.__module__ or "").partition(".")[0] in _THEIRS


def _is_scriptable(cls: type) -> bool:
    """Says whether TorchScript would compile a class as a whole: one of the user's, and of no special kind."""
    special = (torch.nn.Module, torch.Tensor, enum.Enum, tuple, BaseException)
    return not _is_theirs(cls) and not issubclass(cls, special)
