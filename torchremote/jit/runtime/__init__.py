"""Reads the TorchScript that is the same for every interface. It is in the Python files of this folder.

As Python files, linters and people can read it. `definitions(file)` reads one of them. Python also imports these files
for their constants. Their functions and classes run only as TorchScript, in the unit that includes their text.
"""

from __future__ import annotations

import ast
import functools
import importlib.resources
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

Span = tuple[int, int]
"""A range of lines: the index of the first, and the index after the last."""

_FOLDER: Final = importlib.resources.files(__package__)
FILES: Final = tuple(
    sorted(file.name[:-3] for file in _FOLDER.iterdir() if file.name.endswith(".py") and file.name != "__init__.py")
)
"""The files of this folder that `definitions` reads."""

_DEFINED: Final = re.compile(r"^(?:def|class) (\w+)[(:]", re.MULTILINE)
_KINDS: Final = {"Module": "module", "Protocol": "interface"}


@dataclass(frozen=True)
class Definition:
    """A function or class of a runtime file, as generated source includes it."""

    name: str
    kind: Literal["function", "class", "interface", "module"]
    lines: tuple[str, ...]
    methods: tuple[tuple[str, Span], ...]  # the place in `lines` of each method of a class


def definitions(file: str) -> tuple[Definition, ...]:
    """Returns the functions and classes of a file in this folder, in order.

    TorchScript cannot refer to a file's constants, which are names in capitals. Their values are written into the text.
    """
    return _read(file)[0]


def names_in(file: str) -> list[str]:
    """Returns the names of the functions and classes of a file in this folder, and does not parse it."""
    return _DEFINED.findall(_text(file))


def _text(file: str) -> str:
    return _FOLDER.joinpath(f"{file}.py").read_text(encoding="utf-8")


@functools.cache
def _read(file: str) -> tuple[tuple[Definition, ...], dict[str, int | str]]:
    """Reads the definitions of a file, and its constants."""
    text = _text(file)
    body = ast.parse(text).body
    constants = _constants(file, body)
    nodes = [node for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    lines = _with_constants(nodes, text.split("\n"), constants)
    return tuple(_definition(node, lines) for node in nodes), constants


def _constants(file: str, body: list[ast.stmt]) -> dict[str, int | str]:
    """Evaluates the constants of a file, and those that it imports from another one. Imports neither file."""
    found: dict[str, int | str] = {}
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            code = compile(ast.Expression(node.value), file, "eval")
            found[node.target.id] = eval(code, {"__builtins__": {}}, found)
        elif isinstance(node, ast.ImportFrom) and node.level and node.module:
            found |= {name.name: _read(node.module)[1][name.name] for name in node.names if name.name.isupper()}
    return found


def _definition(node: ast.FunctionDef | ast.ClassDef, lines: list[str]) -> Definition:
    """Makes the definition of a function or class. `lines`: those of the file, with the values of constants."""
    first, end = node.lineno - 1, node.end_lineno or node.lineno
    methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
    kind: Literal["function", "class"] = "class" if isinstance(node, ast.ClassDef) else "function"
    bases = [ast.unparse(base).rpartition(".")[2] for base in getattr(node, "bases", ())]
    return Definition(
        node.name,
        _KINDS.get(bases[0], kind) if bases else kind,  # type: ignore[arg-type]
        tuple(lines[first:end]),
        tuple((method.name, (method.lineno - 1 - first, (method.end_lineno or 0) - first)) for method in methods),
    )


def _with_constants(nodes: Sequence[ast.AST], lines: list[str], constants: dict[str, int | str]) -> list[str]:
    """Returns all lines of the file. Where `nodes` have a constant, they have its value."""
    parts = (part for node in nodes for part in ast.walk(node))
    found = [part for part in parts if isinstance(part, ast.Name) and part.id in constants]
    replaced = list(lines)
    for name in sorted(found, key=lambda name: name.col_offset, reverse=True):
        line = replaced[name.lineno - 1].encode()  # offsets are in bytes
        value = _literal(constants[name.id]).encode()
        replaced[name.lineno - 1] = (line[: name.col_offset] + value + line[name.end_col_offset :]).decode()
    return replaced


def _literal(value: int | str) -> str:
    return '"' + value.replace('"', '\\"') + '"' if isinstance(value, str) else repr(value)
