"""Finds code that would end this process while TorchScript compiles it.

Note [Lists as Any]
    torch's compiler reads through a null pointer when a list literal stands where Any is expected: `return [1, 2]` in a
    method that returns Any, or `items: Any = [1, 2]` (pytorch issue 147055). The process ends, and all modules with it.
    So the source of everything that scripting would compile is read before: the module's methods, those of its parts,
    and the methods, functions and classes that they refer to. What has no source is taken to be right, and so is the
    code of torch.
"""

from __future__ import annotations

import ast
import enum
import inspect
import re
import textwrap
import types
import typing
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, Final

import torch

from .. import _torch
from ..errors import CreationError

_LITERALS: Final = {
    ast.List: "a list literal",
    ast.ListComp: "a list comprehension",
    ast.DictComp: "a dict comprehension",
}
_SIGNATURE: Final = re.compile(
    r"^\s*#\s*type:\s*\(.*\)\s*->\s*(.+?)\s*$", re.MULTILINE
)  # a comment instead of annotations
_OWN: Final = frozenset(vars(torch.nn.Module()))
_THEIRS: Final = frozenset("torch torchremote typing builtins abc enum collections dataclasses functools".split())


def check_lists(module: torch.nn.Module, methods: Iterable[str]) -> None:
    """Checks that no code of `module`, hosted with `methods`, would end the process when it is compiled.

    Raises:
        CreationError: it would. The message has the method, the line, and what to write.
    """
    search = _Search()
    search.module(module, methods)
    while search.waiting:
        search.read(*search.waiting.pop())


class _Function:
    """Holds the parts of a function's source that the search needs, read once. It does not keep the function."""

    def __init__(self, function: types.FunctionType) -> None:
        self.first = ""  # the name of the first argument
        self.nodes: list[ast.AST] = []  # all that TorchScript would compile
        self.given: list[tuple[ast.expr, ast.expr, bool]] = []  # target, value, and whether the target loops over it
        try:
            source = textwrap.dedent(inspect.getsource(function))
            node = ast.parse(source).body[0]
        except (OSError, TypeError, SyntaxError, ValueError, IndexError):
            return
        if not isinstance(node, ast.FunctionDef):
            return
        arguments = [*node.args.posonlyargs, *node.args.args]
        self.first = arguments[0].arg if arguments else ""
        roots: list[ast.AST] = []
        self._collect(node.body, roots)
        self.nodes = [inner for root in roots for inner in ast.walk(root)]
        for inner in self.nodes:
            if isinstance(inner, ast.comprehension):
                self.given.append((inner.target, inner.iter, True))
            elif isinstance(inner, ast.Assign):
                self.given += [(target, inner.value, False) for target in inner.targets]
        self._check(function, node, source)

    def _collect(self, statements: list[ast.stmt], roots: list[ast.AST]) -> bool:
        """Adds what is compiled of `statements` to `roots`. Says whether they end the function."""
        for statement in statements:
            ends = False
            if isinstance(statement, ast.If):
                taken = _is_taken(statement.test)
                if taken is None:
                    roots.append(statement.test)
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
                self._collect(statement.body, roots)
            elif not isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
                roots.append(statement)
                ends = isinstance(statement, (ast.Return, ast.Raise))
            if ends:
                return True
        return False

    def _check(self, function: types.FunctionType, node: ast.FunctionDef, source: str) -> None:
        """Raises CreationError for a literal that stands where Any is expected."""
        comment = _SIGNATURE.search(source)
        returns = ast.Constant(comment[1]) if node.returns is None and comment is not None else node.returns
        for inner in self.nodes:
            kind, value = None, None
            if isinstance(inner, ast.Return):
                kind, value = returns, inner.value
            elif isinstance(inner, ast.AnnAssign):
                kind, value = inner.annotation, inner.value
            elif isinstance(inner, ast.Call) and len(inner.args) == 2 and _last_name(inner.func) == "annotate":
                kind, value = inner.args
            what = _literal(value)
            if what is not None and _is_any(function, kind):
                code = function.__code__
                line = code.co_firstlineno + getattr(value, "lineno", 1) - 1
                items = "items: Dict[str, int] = {...}" if "dict" in what else "items: List[int] = [...]"
                raise CreationError(
                    f"{function.__qualname__} ({code.co_filename}:{line}): {what} where the type is Any, at which "
                    f"torch's compiler ends the process (pytorch issue 147055); give it its own type first, as in "
                    f"`{items}`, and go on with `items`"
                )


def _is_any(function: types.FunctionType, kind: ast.expr | None) -> bool:
    """Says whether an annotation in a function means Any, or has it among its alternatives."""
    if isinstance(kind, ast.Constant) and isinstance(kind.value, str):
        try:
            return _is_any(function, ast.parse(kind.value, mode="eval").body)
        except SyntaxError:
            return False
    if isinstance(kind, ast.Subscript) and _named(function, kind.value) in (typing.Optional, typing.Union):
        inside = kind.slice.elts if isinstance(kind.slice, ast.Tuple) else [kind.slice]
        return any(_is_any(function, one) for one in inside)
    found = _named(function, kind)
    if typing.get_origin(found) is typing.Union:  # another name of Optional[Any]
        return typing.Any in typing.get_args(found)
    return found is typing.Any or found is list  # torch takes a bare `list` like Any


def _named(function: types.FunctionType, expression: ast.expr | None) -> object:
    """Returns what a name means in a function, dotted or not. None if it is not known."""
    if isinstance(expression, ast.Attribute):
        holder = _named(function, expression.value)
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
    found = function.__globals__.get(expression.id)
    return list if found is None and expression.id == "list" else found


def _is_taken(test: ast.expr) -> bool | None:
    """Says which branch of a condition TorchScript compiles. None: both."""
    if isinstance(test, ast.Constant):
        return bool(test.value)
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        taken = _is_taken(test.operand)
        return None if taken is None else not taken
    if isinstance(test, ast.Call) and _last_name(test.func) == "is_scripting":
        return True
    if isinstance(test, ast.BoolOp):
        taken_all = [_is_taken(value) for value in test.values]
        decides = isinstance(test.op, ast.Or)  # True decides an `or`, False an `and`
        if decides in taken_all:
            return decides
        return None if None in taken_all else not decides
    return None


def _last_name(expression: ast.expr) -> str:
    if isinstance(expression, ast.Attribute):
        return expression.attr
    return expression.id if isinstance(expression, ast.Name) else ""


def _literal(value: ast.expr | None) -> str | None:
    """Words a literal that an expression may be, if it would pass the expected type on to it."""
    if isinstance(value, ast.IfExp):
        taken = _is_taken(value.test)
        then = None if taken is False else _literal(value.body)
        return then or (None if taken else _literal(value.orelse))
    return _LITERALS.get(type(value))


_read: weakref.WeakKeyDictionary[types.FunctionType, _Function] = weakref.WeakKeyDictionary()


class _Search:
    """Walks through all that scripting a module would compile."""

    def __init__(self) -> None:
        self.waiting: list[tuple[types.FunctionType, torch.nn.Module | None]] = []
        self._seen: set[tuple[object, int]] = set()

    def module(self, module: torch.nn.Module, methods: Iterable[str] = ("forward",)) -> None:
        """Adds what is compiled of a module and its parts, whoever calls it."""
        if isinstance(module, torch.jit.ScriptModule) or not self._is_new(module):
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
        for part in module.children():
            self.module(part)

    def read(self, function: types.FunctionType, module: torch.nn.Module | None) -> None:
        """Reads a function, and adds what it refers to."""
        found = _read.get(function)
        if found is None:
            found = _read[function] = _Function(function)
        local = {found.first: [module]} if module is not None and found.first else {}
        for target, value, loops in found.given * 2:  # a loop may use what is assigned below it
            modules = _modules_of(value, local)
            if loops:
                modules = [part for one in modules for part in one.children()]
            for name in ast.walk(target) if modules else ():
                if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                    known = local.setdefault(name.id, [])
                    known += [one for one in modules if not any(one is other for other in known)]
        for node in found.nodes:
            if isinstance(node, ast.Attribute):
                for one in _modules_of(node.value, local):
                    if not isinstance(one, torch.jit.ScriptModule):
                        self._add(inspect.getattr_static(type(one), node.attr, None), one)
            if isinstance(node, (ast.Attribute, ast.Name)) and isinstance(node.ctx, ast.Load):
                named = _named(function, node)
                self._add(named, None)
                if isinstance(named, type) and _is_scriptable(named):
                    self._class(named)

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


def _modules_of(expression: ast.expr, local: dict[str, list[Any]]) -> list[torch.nn.Module]:
    """Lists the modules that an expression may be. `local`: those that each local name may be."""
    if isinstance(expression, ast.Name):
        return local.get(expression.id, [])
    if isinstance(expression, ast.Attribute):
        parts = (one._modules.get(expression.attr) for one in _modules_of(expression.value, local))
        return [part for part in parts if part is not None]
    if isinstance(expression, ast.Subscript):
        return [part for one in _modules_of(expression.value, local) for part in one.children()]
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
