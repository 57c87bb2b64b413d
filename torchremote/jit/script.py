"""Source text -> what TorchScript makes of it. The only exec.

The text is executed once, for the Python objects that are needed of it, under a file name that exists nowhere but in
linecache; so tracebacks show its lines, and nothing touches the disk. Then every definition is compiled in order,
under its name in TorchScript's global compilation unit.
"""

from __future__ import annotations

import ast
import gc
import linecache
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from ..errors import InternalError
from . import _torch, ir


def script(unit: ir.Unit, source: str, given: Mapping[str, object], table: _torch.Node | None = None) -> dict[str, Any]:
    """Compiles `unit`, whose text is `source`.

    Args:
        given: what it refers to in other units, by name.
        table: the constant to which endpoints' first parameters are bound.

    Returns:
        What it defines, by name: classes and interfaces as Python classes, functions and modules scripted.

    Raises:
        InternalError: TorchScript refuses the text.
    """
    namespace: dict[str, Any] = {**given, "__name__": unit.scope.removeprefix("__torch__.")}
    # An mtime of None keeps the entry: linecache.checkcache drops others whose file is not on the disk.
    linecache.cache[unit.title] = (len(source), None, source.splitlines(keepends=True), unit.title)
    try:
        with _uncollected():
            tree = ast.parse(source)
            exec(compile(_needed_in_python(unit, tree), unit.title, "exec", dont_inherit=True), namespace)
            _Scripting(unit, source, tree, namespace, table).script_all(unit.definitions)
    except Exception as error:
        raise InternalError(f"{unit.title} does not compile: {error}", source) from error
    return {definition.name: namespace[definition.name] for definition in unit.definitions}


@contextmanager
def _uncollected() -> Iterator[None]:
    """Pauses Python's collector, which a syntax tree, of objects that all live, has look through all of torch's again
    and again: that would be a fifth of the time, and grow with the tree. Nothing that is made here is circular.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _needed_in_python(unit: ir.Unit, tree: ast.Module) -> ast.Module:
    """What of `tree` is executed: all but functions that are compiled, and, of what modules are made of, methods."""
    kinds = {definition.name: _kind(definition) for definition in unit.definitions}
    unscripted = {part.name for part in unit.definitions if isinstance(part, ir.Function) and not part.scripted}
    body: list[ast.stmt] = []
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and kinds[node.name] is not ir.Module:
            made: list[ast.stmt] = [item for item in _methods(node) if item.name == "__init__"]
            body.append(ast.copy_location(ast.ClassDef(node.name, node.bases, [], made or [_PASS], []), node))
        elif not isinstance(node, ast.FunctionDef) or node.name in unscripted:
            body.append(node)
    return ast.Module(body, [])


_PASS: Final = ast.parse("pass").body[0]


def _kind(definition: ir.Definition) -> type[ir.Definition]:
    return definition.kind if isinstance(definition, ir.Given) else type(definition)


class _Scripting:
    def __init__(
        self, unit: ir.Unit, source: str, tree: ast.Module, namespace: dict[str, Any], table: _torch.Node | None
    ) -> None:
        self._scope = unit.scope
        self._lines = source.split("\n")
        self._text = _torch.SourceText(source, unit.title)
        self._nodes = {node.name: node for node in tree.body if isinstance(node, _DEFINITIONS)}
        self._namespace = namespace
        self._resolve = _torch.resolver(namespace)
        self._table = table

    def script_all(self, definitions: tuple[ir.Definition, ...]) -> None:
        for definition in definitions:
            if isinstance(definition, ir.Function) and not definition.scripted:
                continue
            node = self._nodes[definition.name]
            if isinstance(node, ast.FunctionDef):
                self._script_function(node, definition.endpoint if isinstance(definition, ir.Function) else None)
            elif isinstance(definition, ir.Interface):
                self._script_interface(node, definition)
            elif _kind(definition) is ir.Class:
                self._script_class(node)
            else:
                self._script_module(node)

    def _script_function(self, node: ast.FunctionDef, endpoint: str | None) -> None:
        definition = self._text.function(node)
        if endpoint is None:
            function = _torch.compile_function(f"{self._scope}.{node.name}", definition, self._resolve)
        else:
            assert self._table is not None, "an endpoint is bound to a table"
            unbound = _torch.compile_function(f"{self._scope}.unbound.{node.name}", definition, self._resolve)
            # Found, if an earlier attempt stopped after it: TorchScript has no way to take a function back.
            function = _torch.find_function(endpoint) or _torch.register_bound(endpoint, unbound, self._table)
        self._namespace[node.name] = function

    def _script_class(self, node: ast.ClassDef) -> None:
        methods = [item.name for item in _methods(node)]
        cls = self._namespace[node.name]
        _torch.compile_class(cls, f"{self._scope}.{node.name}", self._text.class_(node), methods, self._resolve)

    def _script_interface(self, node: ast.ClassDef, definition: ir.Interface) -> None:
        texts = [
            textwrap.dedent("\n".join(self._lines[item.lineno - 1 : item.end_lineno])) + "\n" for item in _methods(node)
        ]
        name = _torch.compile_interface(
            definition.qualified_name, self._text.interface(node, texts), self._resolve, definition.of_modules
        )
        cls = self._namespace[node.name]
        cls.__torch_script_interface__ = name
        _torch.set_qualified_name(cls, name)

    def _script_module(self, node: ast.ClassDef) -> None:
        methods = {
            item.name: self._text.function(item, node.name) for item in _methods(node) if item.name != "__init__"
        }
        module = self._namespace[node.name]()
        self._namespace[node.name] = _torch.compile_module(module, methods, self._resolve)


def _methods(node: ast.ClassDef) -> list[ast.FunctionDef]:
    return [item for item in node.body if isinstance(item, ast.FunctionDef)]


_DEFINITIONS = (ast.FunctionDef, ast.ClassDef)
