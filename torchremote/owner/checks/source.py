"""Reads the source of a function: what of it TorchScript would compile, and what each of its names is given."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import types
import weakref
from collections.abc import Iterator
from typing import Final

Given = tuple[ast.expr, ast.expr, bool]
"""A target, what it is given, and whether it loops over that."""

NO_TENSORS: Final = (ast.Constant, ast.Dict, ast.DictComp, ast.JoinedStr, ast.List, ast.ListComp, ast.Tuple)
"""Expressions that are none, as they are written."""

# Comments in the place of annotations.
_SIGNATURE: Final = re.compile(r"^\s*#\s*type:\s*\((.*)\)\s*->\s*(.+?)\s*$", re.MULTILINE)
_ANY_TYPE: Final = re.compile(r"#\s*type:\s*(?!ignore)")


class Source:
    """Holds the parts of a function's source that the search needs, read once. It does not keep the function."""

    def __init__(self, function: types.FunctionType) -> None:
        self.arguments: list[ast.arg] = []
        self.returns: ast.expr | None = None  # the annotation
        self.nodes: list[ast.AST] = []  # all that TorchScript would compile
        self.tests: list[ast.expr] = []  # the conditions of `if` and `while`
        self.given: list[Given] = []
        self.body: list[ast.stmt] = []
        try:
            source = textwrap.dedent(inspect.getsource(function))
            node = ast.parse(source).body[0]
        except (OSError, TypeError, SyntaxError, ValueError, IndexError):
            return
        if not isinstance(node, ast.FunctionDef):
            return
        self.arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        if self.arguments and self.arguments[0].arg == "self" and self.arguments[0].annotation is None:
            self.arguments[0].annotation = ast.Constant("?")  # no tensor, as those without one are
        comment = _SIGNATURE.search(source)
        self.returns = ast.Constant(comment[2]) if node.returns is None and comment is not None else node.returns
        if _ANY_TYPE.search("\n".join(source.splitlines()[: node.body[0].lineno - 1])):
            _annotate(self.arguments, comment[1] if comment is not None else "")
        for argument in self.arguments:
            argument.annotation = argument.annotation and unquoted(argument.annotation)
        self.returns = self.returns and unquoted(self.returns)
        for inner in ast.walk(node):
            if isinstance(inner, ast.AnnAssign):
                inner.annotation = unquoted(inner.annotation)
        self.body = node.body
        roots: list[ast.AST] = []
        self._collect(node.body, roots)
        self.nodes = [inner for root in roots for inner in ast.walk(root)]
        for inner in self.nodes:
            if isinstance(inner, ast.comprehension):
                self.given += given(inner.target, inner.iter, True)
            elif isinstance(inner, (ast.Assign, ast.AnnAssign)):
                self.given += given_by(inner)

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
                self.given += given(statement.target, statement.iter, True)
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


_read: weakref.WeakKeyDictionary[types.FunctionType, Source] = weakref.WeakKeyDictionary()


def source_of(function: types.FunctionType) -> Source:
    """Reads a function, once."""
    found = _read.get(function)
    if found is None:
        found = _read[function] = Source(function)
    return found


def _annotate(arguments: list[ast.arg], types_of: str) -> None:
    """Gives arguments without annotations those of a comment, or unknown ones if it has not one for each."""
    try:
        found = ast.parse(f"[{types_of}]", mode="eval").body
    except SyntaxError:
        found = None
    kinds = found.elts if isinstance(found, ast.List) else []
    own = arguments[1:] if len(arguments) == len(kinds) + 1 else arguments  # without `self`
    for position, argument in enumerate(own):
        if argument.annotation is None:
            argument.annotation = kinds[position] if len(own) == len(kinds) else ast.Constant("?")


def unquoted(annotation: ast.expr) -> ast.expr:
    """Writes an annotation without the quotes around types in it. A text that is no type stays."""
    found: ast.expr = _Unquoting().visit(annotation)
    return found


class _Unquoting(ast.NodeTransformer):
    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        return node if last_name(node.value) == "Literal" else self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        try:
            return unquoted(ast.parse(node.value, mode="eval").body) if isinstance(node.value, str) else node
        except (SyntaxError, ValueError):
            return node


def given_by(statement: ast.Assign | ast.AnnAssign) -> Iterator[Given]:
    """Yields what an assignment gives to each of its targets."""
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    value = statement.value
    if value is not None:
        for target in targets:
            yield from given(target, value, False)


def given(target: ast.expr, value: ast.expr, loops: bool) -> Iterator[Given]:
    """Yields each part of a target with what it is given, taken apart as far as the source says what is in it.

    Args:
        loops: the target loops over the value.
    """
    parts = target.elts if isinstance(target, (ast.Tuple, ast.List)) else []
    match value:
        case ast.Tuple(elts=values) | ast.List(elts=values) if loops:  # for k in (1, 2)
            for one in values:
                yield from given(target, one, False)
        case ast.Tuple(elts=values) | ast.List(elts=values) if len(values) == len(parts):
            for part, one in zip(parts, values, strict=True):
                yield from given(part, one, False)
        case ast.IfExp(body=body, orelse=orelse) if parts:
            yield from given(target, body, loops)
            yield from given(target, orelse, loops)
        case ast.Call(func=ast.Name("range")) if loops:
            yield target, ast.Constant(0), False
        case ast.Call(func=ast.Name("enumerate"), args=[inside, *_]) if loops and len(parts) == 2:
            yield parts[0], ast.Constant(0), False
            yield from given(parts[1], inside, True)
        case ast.Call(func=ast.Name("zip"), args=values) if loops and len(values) == len(parts):
            for part, one in zip(parts, values, strict=True):
                yield from given(part, one, True)
        case _:
            yield target, value, loops


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
