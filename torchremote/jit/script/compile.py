"""Compiles source text with TorchScript. This file has the package's only `exec` of generated text.

First Python executes the parts of the text that it needs, under a file name that exists only in linecache: nothing
touches the disk. Then TorchScript compiles every definition in order, under its name in the global compilation unit.
Tracebacks show file name and line for runtime functions and for the functions that run calls (`placed`). For all else
they show the text alone.
"""

from __future__ import annotations

import io
import linecache
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch

from ... import _torch
from ...errors import InternalError
from ..lower import ir
from ..read.literals import CONSTANTS
from ..runtime import Span
from .emit import Source


def script(
    unit: ir.Unit,
    source: Source,
    around: Mapping[str, object],
    table: _torch.Node | None = None,
    fill: Callable[[torch.nn.Module], None] | None = None,
) -> dict[str, Any]:
    """Compiles `unit`, which was emitted as `source`.

    Args:
        around: the definitions of other units to which it refers, by name.
        table: the constant to which the endpoints' first parameters are bound.
        fill: gives a module of the unit its parameters and parts, before it is compiled.

    Returns:
        Its definitions, by name: classes and interfaces as Python classes, functions and modules as scripted ones.

    Raises:
        InternalError: TorchScript refuses the text.
    """
    namespace: dict[str, Any] = {**around, "__name__": unit.scope.removeprefix("__torch__.")}
    # An mtime of None keeps the entry: linecache.checkcache drops others whose file is not on the disk. Lines end as in
    # a file: a text that is a default may have characters at which `splitlines` would end one.
    linecache.cache[unit.title] = (len(source.text), None, io.StringIO(source.text).readlines(), unit.title)
    try:
        exec(compile(_needed_in_python(unit, source), unit.title, "exec", dont_inherit=True), namespace)
        _Scripting(unit, source, namespace, table, fill).script_all()
    except Exception as error:
        raise InternalError(f"{unit.title} does not compile: {error}", source.text) from error
    return {definition.name: namespace[definition.name] for definition in unit.definitions}


_INDENT: Final = " " * 4
_RESERVED: Final = re.compile(rf"\b({'|'.join(sorted(CONSTANTS))})\b")


def _needed_in_python(unit: ir.Unit, source: Source) -> str:
    """Returns the text that Python executes: without functions that TorchScript compiles, and without methods' bodies.

    Every line keeps its number. Python needs the classes, because TorchScript looks its types up by them, and the
    methods of modules for their signatures.
    """
    kept = list(source.lines)
    for definition in unit.definitions:
        place, kind = source.places[definition.name], _kind(definition)
        if kind == "function":
            if _is_scripted(definition):
                first, end = place.span
                kept[first:end] = [""] * (end - first)
            continue
        for method, (first, end) in place.methods.items():
            if method != "__init__":
                last = next(line for line in range(first, end) if kept[line].endswith(":"))
                whole = [*kept[first:last], f"{kept[last]} pass"]
                signature = whole if kind == "module" else [f"{_INDENT}pass"]
                kept[first:end] = [*signature, *[""] * (end - first - len(signature))]
    return "\n".join(kept)


_KINDS: Final = {ir.Function: "function", ir.Class: "class", ir.Interface: "interface", ir.Module: "module"}


def _kind(definition: ir.Definition) -> str:
    """Returns the kind of a definition, as `runtime.Definition` words it."""
    return definition.kind if isinstance(definition, ir.Prewritten) else _KINDS[type(definition)]


def _is_scripted(definition: ir.Definition) -> bool:
    return not isinstance(definition, ir.Function) or definition.scripted


class _Scripting:
    """Compiles the definitions of one unit, in order."""

    def __init__(
        self,
        unit: ir.Unit,
        source: Source,
        namespace: dict[str, Any],
        table: _torch.Node | None,
        fill: Callable[[torch.nn.Module], None] | None,
    ) -> None:
        self._unit = unit
        self._source = source
        self._frontend = _torch.Frontend(source.text, unit.title)
        self._namespace = namespace
        self._resolve = _torch.resolver(namespace)
        self._table = table
        self._fill = fill

    def script_all(self) -> None:
        """Compiles the definitions, and puts the results into the namespace."""
        for definition in filter(_is_scripted, self._unit.definitions):
            match _kind(definition):
                case "function" if isinstance(definition, ir.Function) and definition.bound:
                    self._script_bound(definition)
                case "function":
                    self._script_function(definition)
                case "interface":
                    self._script_interface(definition)
                case "class":
                    self._script_class(definition.name)
                case "module":
                    self._script_module(definition.name)

    def _script_bound(self, definition: ir.Function) -> None:
        """Compiles a function, binds it to the table, and registers it."""
        assert self._table is not None, "such a function is bound to a table"
        name = definition.name
        registered = f"{self._unit.scope}.{name}"
        unbound = _torch.compile_function(f"{self._unit.scope}.unbound.{name}", self._read(definition), self._resolve)
        # It exists if an earlier attempt stopped after it: TorchScript cannot remove a function.
        function = _torch.find_function(registered) or _torch.register_bound(registered, unbound, self._table)
        self._namespace[name] = function

    def _script_function(self, definition: ir.Definition) -> None:
        name = definition.name
        self._namespace[name] = _torch.compile_function(
            f"{self._unit.scope}.{name}", self._read(definition), self._resolve
        )

    def _script_class(self, name: str) -> None:
        methods = self._methods(name)
        tree = self._class(name, methods)
        _torch.compile_class(self._namespace[name], f"{self._unit.scope}.{name}", tree, methods, self._resolve)

    def _script_interface(self, definition: ir.Definition) -> None:
        tree = self._class(definition.name, self._methods(definition.name))
        qualified_name, of_modules = f"{self._unit.scope}.{definition.name}", False
        if isinstance(definition, ir.Interface):
            qualified_name, of_modules = definition.qualified_name or qualified_name, definition.of_modules
        name = _torch.compile_interface(qualified_name, tree, self._resolve, of_modules)
        cls = self._namespace[definition.name]
        cls.__torch_script_interface__ = name
        _torch.set_qualified_name(cls, name)

    def _script_module(self, name: str) -> None:
        methods = self._methods(name)
        methods.pop("__init__", None)
        module = self._namespace[name]()
        if self._fill is not None:
            self._fill(module)
        self._namespace[name] = _torch.compile_module(module, methods, self._resolve)

    def _read(self, definition: ir.Definition) -> _torch.Def:
        """Reads a function: with its place, or, in less time, without."""
        span = self._source.places[definition.name].span
        text = self._text(span)
        placed = isinstance(definition, ir.Prewritten) or (isinstance(definition, ir.Function) and definition.placed)
        # An enum's member may have a name that TorchScript's own parser reserves.
        if placed or _RESERVED.search(text):
            return self._frontend.function(definition.name, text, span[0] + 1)
        return _torch.parsed(text)

    def _class(self, name: str, methods: Mapping[str, _torch.Def]) -> _torch.ClassDef:
        return self._frontend.class_(name, self._source.places[name].span[0] + 1, methods.values())

    def _methods(self, name: str) -> dict[str, _torch.Def]:
        places = self._source.places[name].methods.items()
        return {method: _torch.parsed(self._text(span, _INDENT)) for method, span in places}

    def _text(self, span: Span, indent: str = "") -> str:
        """Returns the text of a span, without its indentation."""
        return "\n".join(line.removeprefix(indent) for line in self._source.lines[slice(*span)])
