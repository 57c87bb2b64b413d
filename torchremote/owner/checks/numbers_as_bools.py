"""Refuses `or` and `and` of numbers where their value is used, of which TorchScript makes a bool.

Note [Numbers as bools]
    In Python, `k or self.k` is one of the two. In TorchScript it is True or False, so `x.topk(k or self.k)` has one
    item. As a condition it is right. TorchScript itself refuses it for tensors, lists and strings.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from ...errors import CreationError
from .kinds import is_number, number_names
from .scripted_code import Code


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
