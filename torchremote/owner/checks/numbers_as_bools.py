"""Refuses `or` and `and` of numbers where their value is used, of which TorchScript makes a bool.

Note [Numbers as bools]
    In Python, `k or self.k` is one of the two. In TorchScript it is True or False, so `x.topk(k or self.k)` has one
    item. As a condition it is right. TorchScript itself refuses it for tensors, lists and strings.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import Final

from ...errors import CreationError
from .scripted_code import Code, last_name

SIZES: Final = frozenset("dim len ndimension numel size storage_offset stride".split())
"""Functions and methods of tensors that give integers."""


def check_numbers(code: Code) -> None:
    """Raises CreationError for such a value, with the line, and what to write."""
    choices = [node for node in code.source.nodes if isinstance(node, ast.BoolOp)]
    if not choices:
        return
    tests = {id(test) for test in _tests(code.source.tests, code.source.nodes)}
    numbers = number_names(code)
    for node in choices:
        if id(node) not in tests and any(is_number(code, value, numbers) for value in node.values):
            raise CreationError(
                f"{code.place(node)}: `{ast.unparse(node)}` is True or False in TorchScript, and not one of the "
                f"numbers; write `{_written(node)}`"
            )


def number_names(code: Code) -> set[str]:
    """Returns the local names of numbers, as far as the source says."""

    def is_declared(annotation: ast.expr | None) -> bool:
        return any(one is int or one is float for one in code.alternatives(annotation))

    return code.names(is_declared, lambda value, names: is_number(code, value, names))


def is_number(code: Code, expression: ast.expr, names: set[str]) -> bool:
    """Says whether an expression is an int or a float. `names`: the local names of numbers."""
    match expression:
        case ast.Name(name) if name in names:
            return True
        case ast.Constant(value=value):
            return _is_number(value)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            return is_number(code, operand, names)
        case ast.BinOp(left=left, right=right):
            return is_number(code, left, names) and is_number(code, right, names)
        case ast.IfExp(body=body, orelse=orelse):
            return is_number(code, body, names) and is_number(code, orelse, names)
        case ast.Call(func=function):
            return last_name(function) in SIZES or (isinstance(function, ast.Name) and function.id in ("int", "float"))
        case ast.Subscript(value=value) if last_name(value) == "shape":
            return not isinstance(expression.slice, ast.Slice)
    return _is_number(code.value(expression))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _tests(tests: Iterable[ast.expr], nodes: Iterable[ast.AST]) -> Iterator[ast.expr]:
    """Yields the expressions of which only the truth is used. `tests`: those of statements."""
    found = list(tests)
    for node in nodes:
        match node:
            case ast.IfExp(test=test) | ast.Assert(test=test):
                found.append(test)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                found.append(operand)
            case ast.Call(func=ast.Name("bool"), args=arguments):
                found += arguments
    while found:
        test = found.pop()
        yield test
        if isinstance(test, ast.BoolOp):
            found += test.values


def _written(choice: ast.BoolOp) -> str:
    *first, last = choice.values
    tested = ast.unparse(first[0] if len(first) == 1 else ast.BoolOp(choice.op, first))
    if isinstance(choice.op, ast.And):
        return f"{ast.unparse(last)} if {tested} else 0"
    return f"{tested} if {tested} else {ast.unparse(last)}" if len(first) == 1 else "... if ... else ..."
