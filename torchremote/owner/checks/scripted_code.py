"""Finds the source of all that scripting a module would compile, for checks before it does.

That is the module's methods, those of its parts, and the methods, functions and classes that they refer to. What has no
source is left out, and so are the code of torch, and branches that TorchScript does not compile.
"""

from __future__ import annotations

import ast
import builtins
import enum
import inspect
import re
import textwrap
import types
import typing
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import torch

from ... import _torch

# A comment in the place of annotations.
_SIGNATURE: Final = re.compile(r"^\s*#\s*type:\s*\(.*\)\s*->\s*(.+?)\s*$", re.MULTILINE)
_OWN: Final = frozenset(vars(torch.nn.Module()))
_THEIRS: Final = frozenset("torch torchremote typing builtins abc enum collections dataclasses functools".split())


def code_of(module: torch.nn.Module, methods: Iterable[str]) -> Iterator[Code]:
    """Yields each function that scripting `module` with `methods` would compile, once for each module that has it."""
    search = _Search()
    search.module(module, methods)
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

    def value(self, expression: ast.expr) -> object:
        """Returns what a global name or an attribute of a module has when the module is scripted. None if unknown."""
        if isinstance(expression, ast.Attribute) and not any(isinstance(one, ast.Call) for one in ast.walk(expression)):
            for module in _modules_of(expression.value, self.local):
                found = inspect.getattr_static(module, expression.attr, module._buffers.get(expression.attr))
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
        for target, value, loops in self.source.given:
            if isinstance(target, ast.Name) and not loops and gives(value, found):
                found.add(target.id)
        return found

    def alternatives(self, annotation: ast.expr | None) -> list[object]:
        """Lists the types that an annotation allows: its own, or those of an Optional or a Union."""
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            try:
                return self.alternatives(ast.parse(annotation.value, mode="eval").body)
            except SyntaxError:
                return []
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


_UNIONS: Final = (typing.Optional, typing.Union)


class Source:
    """Holds the parts of a function's source that the search needs, read once. It does not keep the function."""

    def __init__(self, function: types.FunctionType) -> None:
        self.arguments: list[ast.arg] = []
        self.returns: ast.expr | None = None  # the annotation
        self.nodes: list[ast.AST] = []  # all that TorchScript would compile
        self.tests: list[ast.expr] = []  # the conditions of `if` and `while`
        self.given: list[tuple[ast.expr, ast.expr, bool]] = []  # target, value, and whether the target loops over it
        try:
            source = textwrap.dedent(inspect.getsource(function))
            node = ast.parse(source).body[0]
        except (OSError, TypeError, SyntaxError, ValueError, IndexError):
            return
        if not isinstance(node, ast.FunctionDef):
            return
        self.arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        comment = _SIGNATURE.search(source)
        self.returns = ast.Constant(comment[1]) if node.returns is None and comment is not None else node.returns
        roots: list[ast.AST] = []
        self._collect(node.body, roots)
        self.nodes = [inner for root in roots for inner in ast.walk(root)]
        for inner in self.nodes:
            if isinstance(inner, ast.comprehension):
                self.given.append((inner.target, inner.iter, True))
            elif isinstance(inner, ast.Assign):
                self.given += [(target, inner.value, False) for target in inner.targets]

    def _collect(self, statements: list[ast.stmt], roots: list[ast.AST]) -> bool:
        """Adds what is compiled of `statements` to `roots`. Says whether they end the function."""
        for statement in statements:
            ends = False
            if isinstance(statement, ast.If):
                taken = is_taken(statement.test)
                if taken is None:
                    roots.append(statement.test)
                    self.tests.append(statement.test)
                    ends = self._collect(statement.body, roots)
                    ends = self._collect(statement.orelse, roots) and ends
                else:
                    ends = self._collect(statement.body if taken else statement.orelse, roots)
            elif isinstance(statement, ast.With):
                roots += [item.context_expr for item in statement.items]
                ends = self._collect(statement.body, roots)
            elif isinstance(statement, ast.For):
                roots.append(statement.iter)
                self.given.append((statement.target, statement.iter, True))
                self._collect(statement.body, roots)
            elif isinstance(statement, ast.While):
                roots.append(statement.test)
                self.tests.append(statement.test)
                self._collect(statement.body, roots)
            elif not isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
                roots.append(statement)
                ends = isinstance(statement, (ast.Return, ast.Raise))
            if ends:
                return True
        return False


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


def is_taken(test: ast.expr) -> bool | None:
    """Says which branch of a condition TorchScript compiles. None: both."""
    if isinstance(test, ast.Constant):
        return bool(test.value)
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        taken = is_taken(test.operand)
        return None if taken is None else not taken
    if isinstance(test, ast.Call) and last_name(test.func) == "is_scripting":
        return True
    if isinstance(test, ast.BoolOp):
        taken_all = [is_taken(value) for value in test.values]
        decides = isinstance(test.op, ast.Or)  # True decides an `or`, False an `and`
        if decides in taken_all:
            return decides
        return None if None in taken_all else not decides
    return None


def last_name(expression: ast.expr) -> str:
    """Returns the last part of a name, dotted or not. "" if it is none."""
    if isinstance(expression, ast.Attribute):
        return expression.attr
    return expression.id if isinstance(expression, ast.Name) else ""


_read: weakref.WeakKeyDictionary[types.FunctionType, Source] = weakref.WeakKeyDictionary()


class _Search:
    """Walks through all that scripting a module would compile."""

    def __init__(self) -> None:
        self.waiting: list[tuple[types.FunctionType, torch.nn.Module | None]] = []
        self._seen: set[tuple[object, int]] = set()

    def module(self, module: torch.nn.Module, methods: Iterable[str] = ("forward",)) -> None:
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
                    self._class(type(value))
        for part in _parts(module).values():
            self.module(part)

    def read(self, function: types.FunctionType, module: torch.nn.Module | None) -> Code:
        """Reads a function, and adds what it refers to."""
        found = _read.get(function)
        if found is None:
            found = _read[function] = Source(function)
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
                    self._class(named)
        return Code(function, found, local)

    def _class(self, cls: type) -> None:
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


def _parts(module: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """Returns the parts of a module by name, without those that are scripted already, as stubs are."""
    parts = module._modules.items()
    return {name: part for name, part in parts if part is not None and not isinstance(part, torch.jit.ScriptModule)}


def _modules_of(expression: ast.expr, local: dict[str, list[torch.nn.Module]]) -> list[torch.nn.Module]:
    """Lists the modules that an expression may be. `local`: those that each local name may be."""
    if isinstance(expression, ast.Name):
        return local.get(expression.id, [])
    if isinstance(expression, ast.Attribute):
        parts = (_parts(one).get(expression.attr) for one in _modules_of(expression.value, local))
        return [part for part in parts if part is not None]
    if isinstance(expression, ast.Subscript):
        return [part for one in _modules_of(expression.value, local) for part in _parts(one).values()]
    if isinstance(expression, ast.Call):  # enumerate(self.layers), self.layers.values()
        inside = (
            [*expression.args, expression.func.value] if isinstance(expression.func, ast.Attribute) else expression.args
        )
        return [one for argument in inside for one in _modules_of(argument, local)]
    return []


def _members(cls: type) -> Iterator[tuple[str, object]]:
    """Yields what a class and its bases define, but for those of libraries."""
    seen: set[str] = set()
    for base in cls.__mro__:
        members = {} if _is_theirs(base) else vars(base)
        yield from ((name, member) for name, member in members.items() if name not in seen)
        seen |= members.keys()


def _is_theirs(what: type | types.FunctionType) -> bool:
    return (what.__module__ or "").partition(".")[0] in _THEIRS


def _is_scriptable(cls: type) -> bool:
    """Says whether TorchScript would compile a class as a whole: one of the user's, and of no special kind."""
    special = (torch.nn.Module, torch.Tensor, enum.Enum, tuple, BaseException)
    return not _is_theirs(cls) and not issubclass(cls, special)
