"""Source text -> what TorchScript makes of it. The only exec.

What Python needs of the text is executed, under a file name that exists nowhere but in linecache; nothing touches the
disk. Then every definition is compiled in order, under its name in TorchScript's global compilation unit. Tracebacks
have that file name, and lines, for endpoints and what all interfaces share, and the text alone for the rest.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ... import _torch
from ...errors import InternalError
from ..lower import ir


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
    parts = _Source(source)
    try:
        exec(compile(_needed_in_python(unit, parts), unit.title, "exec", dont_inherit=True), namespace)
        _Scripting(unit, parts, namespace, table).script_all()
    except Exception as error:
        raise InternalError(f"{unit.title} does not compile: {error}", source) from error
    return {definition.name: namespace[definition.name] for definition in unit.definitions}


class _Source:
    """Generated source, and where in it what is defined stands: definitions, and the methods of classes."""

    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")
        self.definitions = dict(self._indented("", 0, len(self.lines)))
        self.methods = {name: dict(self._indented(_INDENT, *place)) for name, place in self.definitions.items()}

    def _indented(self, indent: str, first: int, end: int) -> Iterator[tuple[str, tuple[int, int]]]:
        """What begins with `indent`: name, first line, and the line that it ends before."""
        name, begun = "", first
        for number in range(first, end):
            line = self.lines[number]
            # A statement begins here. What else may stand at the indent, a bracket or docstring, goes on with one.
            if line.startswith(indent) and line[len(indent) : len(indent) + 1].isidentifier():
                if name:
                    yield name, (begun, number)
                found = _HEAD.match(line, len(indent))
                name, begun = found[1] if found else "", number
        if name:
            yield name, (begun, end)

    def text(self, place: tuple[int, int], indent: str = "") -> str:
        return "\n".join(line.removeprefix(indent) for line in self.lines[slice(*place)])


_INDENT: Final = " " * 4
_RESERVED: Final = re.compile(r"\b(Ellipsis|NoneType)\b")  # by TorchScript's parser; in Python, these are names
_HEAD: Final = re.compile(r"(?:class|def) (\w+)")


def _needed_in_python(unit: ir.Unit, source: _Source) -> str:
    """What Python executes, each line where it is in the text: all but functions that are compiled, and bodies.

    Classes are there for TorchScript to find what it makes of them, and the methods of modules for their signatures.
    """
    kept = list(source.lines)
    for definition in unit.definitions:
        first, end = source.definitions[definition.name]
        kind = _kind(definition)
        if kind is not ir.Function:
            for method, (start, stop) in source.methods[definition.name].items():
                if method != "__init__":
                    signature = f"{kept[start]} pass" if kind is ir.Module else f"{_INDENT}pass"
                    kept[start:stop] = [signature, *[""] * (stop - start - 1)]
        elif _is_scripted(definition):
            kept[first:end] = [""] * (end - first)
    return "\n".join(kept)


def _kind(definition: ir.Definition) -> type[ir.Definition]:
    return definition.kind if isinstance(definition, ir.Given) else type(definition)


def _is_scripted(definition: ir.Definition) -> bool:
    return not isinstance(definition, ir.Function) or definition.scripted


class _Scripting:
    def __init__(self, unit: ir.Unit, source: _Source, namespace: dict[str, Any], table: _torch.Node | None) -> None:
        self._unit = unit
        self._source = source
        self._frontend = _torch.Frontend("\n".join(source.lines), unit.title)
        self._namespace = namespace
        self._resolve = _torch.resolver(namespace)
        self._table = table

    def script_all(self) -> None:
        for definition in self._unit.definitions:
            kind = _kind(definition)
            if not _is_scripted(definition):
                continue
            if isinstance(definition, ir.Function) and definition.endpoint is not None:
                self._script_endpoint(definition.name, definition.endpoint)
            elif kind is ir.Function:
                self._script_function(definition)
            elif isinstance(definition, ir.Interface):
                self._script_interface(definition)
            elif kind is ir.Class:
                self._script_class(definition.name)
            else:
                self._script_module(definition.name)

    def _script_endpoint(self, name: str, endpoint: str) -> None:
        assert self._table is not None, "an endpoint is bound to a table"
        unbound = _torch.compile_function(
            f"{self._unit.scope}.unbound.{name}", self._read_with_place(name), self._resolve
        )
        # Found, if an earlier attempt stopped after it: TorchScript has no way to take a function back.
        function = _torch.find_function(endpoint) or _torch.register_bound(endpoint, unbound, self._table)
        self._namespace[name] = function

    def _script_function(self, definition: ir.Definition) -> None:
        name = definition.name
        text = self._source.text(self._source.definitions[name])
        # failures.py looks for some of the given ones in tracebacks; and a member of an enum may be called as it likes.
        if isinstance(definition, ir.Given) or _RESERVED.search(text):
            tree = self._read_with_place(name)
        else:
            tree = _torch.parsed(text)
        self._namespace[name] = _torch.compile_function(f"{self._unit.scope}.{name}", tree, self._resolve)

    def _script_class(self, name: str) -> None:
        methods = self._methods(name)
        tree = self._class(name, methods)
        _torch.compile_class(self._namespace[name], f"{self._unit.scope}.{name}", tree, methods, self._resolve)

    def _script_interface(self, definition: ir.Interface) -> None:
        tree = self._class(definition.name, self._methods(definition.name))
        name = _torch.compile_interface(definition.qualified_name, tree, self._resolve, definition.of_modules)
        cls = self._namespace[definition.name]
        cls.__torch_script_interface__ = name
        _torch.set_qualified_name(cls, name)

    def _script_module(self, name: str) -> None:
        methods = self._methods(name)
        methods.pop("__init__", None)
        self._namespace[name] = _torch.compile_module(self._namespace[name](), methods, self._resolve)

    def _read_with_place(self, name: str) -> _torch.Def:
        place = self._source.definitions[name]
        return self._frontend.function(self._source.text(place), line=place[0] + 1)

    def _class(self, name: str, methods: Mapping[str, _torch.Def]) -> _torch.ClassDef:
        return self._frontend.class_(name, self._source.definitions[name][0] + 1, methods.values())

    def _methods(self, name: str) -> dict[str, _torch.Def]:
        methods = self._source.methods[name].items()
        return {method: _torch.parsed(self._source.text(place, _INDENT)) for method, place in methods}
