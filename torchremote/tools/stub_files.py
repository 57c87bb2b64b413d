"""Writes the `.pyi` of a module, from which type checkers know its stubs: see typing.py, Note [Typed stubs].

It is the module's own text, with three changes. Each interface leads to the class of its stubs, which follows it. What
the module imports, it also exports, as at run time. Of an overloaded function, only the overloads stay.
"""

from __future__ import annotations

import ast
import textwrap
import tokenize
import types
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from ..errors import InterfaceError
from .typed_stub import StubWriter

_HEAD: Final = """\
# Written from {file} by `python -m torchremote stubs {target}`. Do not edit: write it again when {file} has changed.
# mypy: disable-error-code="override"
{pyright}
# ruff: noqa
# fmt: off
"""
# pyright checks the module itself, too. It narrows no types in a stub file, and so would find wrong what is right.
_OFF_IN_PYRIGHT: Final = """
    ArgumentType AssignmentType AttributeAccessIssue CallIssue GeneralTypeIssues IncompatibleMethodOverride
    IncompatibleVariableOverride IndexIssue OperatorIssue OptionalCall OptionalContextManager OptionalIterable
    OptionalMemberAccess OptionalOperand OptionalSubscript Redeclaration ReturnType SelfClsParameterName
    TypedDictNotRequiredAccess
""".split()
_DECORATED: Final = "__torch_script_interface__"  # what `remote_scriptable` and `torch.jit.interface` leave in a class


def stub_file(module: types.ModuleType, names: Collection[str] = ()) -> str:
    """Returns the text of the `.pyi` that belongs beside a module.

    Args:
        names: of interfaces in it that are not decorated.

    Raises:
        InterfaceError: the module has no interface, or a name is not that of a class at its top level.
    """
    path = file_of(module)
    with tokenize.open(path) as file:  # in the encoding that it says, and with any ends of lines
        source = file.read().encode()
    tree = ast.parse(source.decode())
    statements = list(_at_top_level(tree.body))
    classes = {node.name: node for node in statements if isinstance(node, ast.ClassDef)}
    text, writer = _Text(source), StubWriter(tree)
    edits = [*_exports(text, statements), *_implementations_of_overloads(text, tree)]
    for cls in _interfaces(module, names):
        if cls.__name__ not in classes:
            raise InterfaceError(f"{module.__name__}:{cls.__qualname__}: is not at the top level of its module")
        edits += _interface(text, classes[cls.__name__], cls, writer.stub_class(cls))
    imports = "".join(f"import {module} as {name}\n" for name, module in writer.imports.items())
    first = next(node for node in tree.body if not _belongs_first(node))
    edits.append(text.before(first, imports))
    for edit in sorted(edits, reverse=True):
        source = source[: edit.begin] + edit.text.encode() + source[edit.end :]
    target = " ".join(f"{module.__name__}:{name}" for name in sorted(names)) or module.__name__
    rules = ", ".join(["basic", *(f"report{rule}=false" for rule in _OFF_IN_PYRIGHT)])
    pyright = "\n".join(f"# pyright: {line.rstrip(',')}" for line in textwrap.wrap(rules, 100))
    return _HEAD.format(file=path.name, target=target, pyright=pyright) + source.decode()


def file_of(module: types.ModuleType) -> Path:
    """Returns the path of a module's source.

    Raises:
        InterfaceError: it has none.
    """
    path = Path(getattr(module, "__file__", None) or "")
    if path.suffix != ".py":
        raise InterfaceError(f"{module.__name__}: is in no .py file, beside which a .pyi could be")
    return path


def _interfaces(module: types.ModuleType, names: Collection[str]) -> list[type]:
    """Lists the interfaces that a module defines: those that are decorated, and those in `names`."""
    own = {name: it for name, it in vars(module).items() if isinstance(it, type) and it.__module__ == module.__name__}
    for name in names:
        if name not in own:
            raise InterfaceError(f"{module.__name__}:{name}: no class of this module; it has {', '.join(own)}")
    found = list(dict.fromkeys(cls for name, cls in own.items() if name in names or _DECORATED in vars(cls)))
    if not found:
        raise InterfaceError(
            f"{module.__name__}: no class in it is decorated with @remote_scriptable; name those that are interfaces, "
            f"as in {module.__name__}:Encoder"
        )
    return found


# -- edits


class _Edit(NamedTuple):
    """Bytes of the source in whose place `text` comes."""

    begin: int
    end: int
    text: str


class _Text:
    """Knows where in the source the parts of a tree are. ast counts lines from 1, and columns in bytes."""

    def __init__(self, source: bytes) -> None:
        self._begins = [0]
        for line in source.splitlines(keepends=True):
            self._begins.append(self._begins[-1] + len(line))

    def before(self, node: ast.stmt, text: str) -> _Edit:
        """Puts `text` before a statement and its decorators."""
        first = min([node.lineno, *(it.lineno for it in getattr(node, "decorator_list", []))])
        begin = self._begins[first - 1] + node.col_offset
        return _Edit(begin, begin, text)

    def after(self, node: ast.stmt | ast.expr, text: str) -> _Edit:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        end = self._begins[node.end_lineno - 1] + node.end_col_offset
        return _Edit(end, end, text)

    def instead(self, node: ast.stmt, text: str) -> _Edit:
        return _Edit(self.before(node, "").begin, self.after(node, "").end, text)


def _at_top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yields the statements of a module, and those inside of its `if`, `try` and `with`."""
    for node in body:
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            for part in ("body", "orelse", "handlers", "finalbody"):
                yield from _at_top_level(getattr(node, part, []))


def _belongs_first(node: ast.stmt) -> bool:
    """Says whether nothing may stand before a statement: a docstring, or an import from the future."""
    future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
    return future or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _interface(text: _Text, node: ast.ClassDef, cls: type, stub_class: str) -> Iterator[_Edit]:
    """Puts the class of its stubs after an interface, and has the interface lead there."""
    indent = " " * node.col_offset
    yield text.after(node, "\n\n" + textwrap.indent(stub_class, indent))
    link = f"def __torchremote_stub__(cls) -> {node.name}Stub: ..."
    inherits = any(_DECORATED in vars(base) for base in cls.__mro__[1:])
    if getattr(cls, "_is_protocol", False) and not inherits:
        # A member of the Protocol itself would be asked of local modules, too.
        yield text.before(node, f"class _{node.name}Meta(_abc.ABCMeta):\n{indent}    {link}\n\n{indent}")
        *_, last = [*node.bases, *(keyword.value for keyword in node.keywords)]
        yield text.after(last, f", metaclass=_{node.name}Meta")
        return
    first = node.body[0]
    within = " " * (first.col_offset if first.lineno > node.lineno else node.col_offset + 4)
    lines = f"@classmethod\n{within}{link}"
    if ast.get_docstring(node) is not None:
        yield text.after(first, f"\n\n{within}{lines}")
    else:
        yield text.before(first, f"{lines}\n{within}" if first.lineno > node.lineno else f"\n{within}{lines}\n{within}")


def _exports(text: _Text, statements: list[ast.stmt]) -> Iterator[_Edit]:
    """Has imports export what they import. In a stub file, only `import a as a` does."""
    for node in statements:
        if isinstance(node, (ast.Import, ast.ImportFrom)) and getattr(node, "module", None) != "__future__":
            for alias in node.names:
                if alias.asname is None and alias.name != "*" and "." not in alias.name:
                    alias.asname = alias.name
            yield text.instead(node, ast.unparse(node))


def _implementations_of_overloads(text: _Text, tree: ast.Module) -> Iterator[_Edit]:
    """Takes out what a stub file must not have."""
    for body in (tree.body, *(node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef))):
        overloaded = set()
        for node in body:
            if isinstance(node, ast.FunctionDef):
                if any(ast.unparse(it).rpartition(".")[2] == "overload" for it in node.decorator_list):
                    overloaded.add(node.name)
                elif node.name in overloaded:
                    yield text.instead(node, "pass")
