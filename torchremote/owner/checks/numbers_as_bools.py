"""Refuses `or` and `and` of numbers where their value is used, of which TorchScript makes a bool.

Note [Numbers as bools]
    In Python, `k or self.k` is one of the two. In TorchScript it is True or False, so `x.topk(k or self.k)` has one
    item. As a condition it is right. TorchScript itself refuses it for tensors, lists and strings, but not where the
    type is Any or a Union with bool, nor in `int(...)` and `float(...)`; so these are refused there.
"""

from __future__ import annotations

import ast
import inspect
import re
import typing
from collections.abc import Iterable, Iterator

from .kinds import Kinds
from .scripted_code import Code


def check_numbers(kinds: Kinds) -> None:
    """Raises CreationError for such a value, with the line, and what to write."""
    code = kinds.code
    choices = [node for node in code.source.nodes if isinstance(node, ast.BoolOp)]
    if not choices:
        return
    tests = {id(test) for test in _tests(code.source.tests, code.source.nodes)}
    is_open = {id(value) for value in _where_bools_pass(code)}
    for node in choices:
        if id(node) in is_open and any(_is_no_bool(kinds, value) for value in node.values):
            raise code.refusal(
                node, "is True or False in TorchScript, and not one of the values; write it with `if` and `else`"
            )
        if id(node) not in tests and any(kinds.is_number(value) for value in node.values):
            raise code.refusal(
                node, f"is True or False in TorchScript, and not one of the numbers; write `{_written(code, node)}`"
            )


def _where_bools_pass(code: Code) -> Iterator[ast.expr]:
    """Yields the values of which TorchScript does not refuse a bool, whatever they are in Python."""
    for node in code.source.nodes:
        match node:
            case ast.Return(value=value) if value is not None and _takes_bools(code, code.source.returns):
                yield value
            case ast.AnnAssign(value=value, annotation=declared) if value is not None and _takes_bools(code, declared):
                yield value
            case ast.Call(func=ast.Name("int" | "float"), args=[value]):
                yield value
            case ast.Call(func=function, args=values) if (called := code.called(function)) is not None:
                pairs = zip(values, called[1], strict=False)
                yield from (value for value, argument in pairs if _takes_bools(called[0], argument.annotation))


def _takes_bools(code: Code, annotation: ast.expr | None) -> bool:
    """Says whether an annotation means Any, or a Union with bool."""
    found = code.alternatives(annotation)
    return typing.Any in found or (bool in found and len(found) > 1)


def _is_no_bool(kinds: Kinds, expression: ast.expr) -> bool:
    """Says whether an expression is a tensor, a text, a list or a dict."""
    code = kinds.code
    if isinstance(expression, ast.Name):
        declared = [one.annotation for one in code.source.arguments if one.arg == expression.id]
        if any(code.item_types(annotation) or str in code.alternatives(annotation) for annotation in declared):
            return True
    is_text = isinstance(expression, ast.Constant) and isinstance(expression.value, str)
    return is_text or isinstance(expression, (ast.List, ast.Dict)) or kinds.is_tensor(expression)


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


def _written(code: Code, choice: ast.BoolOp) -> str:
    """Words what to write, in which nothing is called twice."""
    *first, last = choice.values
    is_and = isinstance(choice.op, ast.And)
    may_be_none = any(_may_be_none(code, one) for one in first)
    if len(first) > 1 and (may_be_none or not is_and):
        return "... if ... else ..."
    tested = ast.unparse(first[0] if len(first) == 1 else ast.BoolOp(choice.op, first))
    has_call = any(isinstance(one, ast.Call) for one in ast.walk(first[0]))
    is_attribute = may_be_none and isinstance(first[0], ast.Attribute)  # TorchScript forgets that it is not None
    before = f"value = {tested}` before, and `" if is_attribute or (has_call and not is_and) else ""
    value = "value" if before else tested
    test = f"{value} is not None and {value}" if may_be_none else value
    if is_and:
        return f"{before}{ast.unparse(last)} if {test} else {value if may_be_none else 0}"
    return f"{before}{value} if {test} else {ast.unparse(last)}"


def _may_be_none(code: Code, expression: ast.expr) -> bool:
    """Says whether the annotation of a name, or of a module's attribute, allows None."""
    declared: list[object] = []
    if isinstance(expression, ast.Name):
        declared += [one.annotation for one in code.source.arguments if one.arg == expression.id]
        for node in code.source.nodes:
            if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == expression.id:
                declared.append(node.annotation)
    elif isinstance(expression, ast.Attribute) and isinstance(expression.value, ast.Name):
        modules = code.local.get(expression.value.id, [])
        declared += [inspect.get_annotations(cls).get(expression.attr) for one in modules for cls in type(one).__mro__]
    shown = [ast.unparse(one) if isinstance(one, ast.AST) else str(one) for one in declared if one is not None]
    return any(re.search(r"\b(None|Optional)\b", one) for one in shown)
