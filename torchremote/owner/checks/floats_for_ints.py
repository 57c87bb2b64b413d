"""Refuses an int of which TorchScript makes a float where the value shows it.

Note [Floats for ints]
    `2 ** n` of integers is a float in TorchScript, and so are `pow` of integers and `round`. A tensor of integers
    beside one becomes float32: `ids % 2 ** 20` and `ids + 10 ** 9` lose digits. As text it is `8.`, where the type is
    Any it is a float, and `int(2 ** 60 - 1)` is rounded before. `int(2 ** n)` is right, and so is `1 << n`.

    Refused is such a value beside what may be a tensor. With a tensor of floats it would be right, but the search does
    not know that. Beside floats, in a division and as a condition it is right.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Iterator
from typing import Final

import torch

from ...errors import CreationError
from .kinds import FLOAT, MASK, TENSOR, WRONG, Kinds
from .scripted_code import Code
from .source import last_name

_EXACT: Final = 1 << 53  # a float has each integer up to it
_COMPARED: Final = 1 << 24  # and a float32 up to this one
_LARGEST_POWER: Final = 200  # an exponent that is still calculated
_DTYPE_OF_TENSOR: Final = frozenset("fill_ full_like masked_fill masked_fill_ new_full".split())
_OF_FLOATS: Final = frozenset("div div_ linspace logspace scalar_tensor true_divide true_divide_".split())
_GIVE_FLOATS: Final = frozenset(
    "cos double exp float gelu half linspace log mean norm rand rand_like randn randn_like rsqrt sigmoid sin softmax "
    "sqrt std tanh var".split()
)
_NO_TENSORS: Final = (ast.Constant, ast.List, ast.ListComp, ast.JoinedStr, ast.Tuple, ast.Dict)


def check_powers(code: Code) -> None:
    """Raises CreationError for such a value, with the line, and what to write."""
    if not any(_may_be_wrong(node) for node in code.source.nodes):
        return
    kinds = Kinds(code)
    for node in code.source.nodes:
        for wrong, effect in _shown(code, kinds, node):
            raise CreationError(
                f"{code.place(node)}: `{ast.unparse(node)}` uses `{ast.unparse(wrong)}`, which is an int in Python and "
                f"a float in TorchScript, so {effect}; write `{_written(wrong)}`"
            )
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "int" and node.args:
            power = _rounded(kinds, node.args[0])
            if power is not None:
                raise CreationError(
                    f"{code.place(node)}: `{ast.unparse(node)}` may be rounded, because `{ast.unparse(power)}` is a "
                    f"float in TorchScript, with 53 bits; write `int({ast.unparse(power)})`, and calculate with that, "
                    "or the number itself"
                )


def _may_be_wrong(node: ast.AST) -> bool:
    if isinstance(node, (ast.BinOp, ast.AugAssign)):
        return isinstance(node.op, ast.Pow)
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("pow", "round")


def _shown(code: Code, kinds: Kinds, node: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    """Yields such values that a part of a function uses, with what would come of it."""
    wrong, tensors = [], "a tensor of integers would become one of floats"
    match node:
        case ast.BinOp(left=ast.Constant(value=str(text)), op=ast.Mod(), right=right):
            wrong = [one for one in _inside(right) if kinds.kind(one) == WRONG and "%s" in text]
            tensors = "the text would have a point"
        case ast.BinOp(left=left, op=operator, right=right) | ast.AugAssign(target=left, op=operator, value=right):
            if not isinstance(operator, ast.Div):
                wrong = [one for one, other in ((left, right), (right, left)) if _meets(kinds, one, other)]
        case ast.Compare(left=left, comparators=others):
            sides = [left, *others]
            of_tensor = any(_may_be_tensor(kinds, side) for side in sides)
            wrong = [
                side
                for side in sides
                if of_tensor and kinds.kind(side) == WRONG and abs(_constant(side) or _EXACT) > _COMPARED
            ]
            tensors = "a tensor of integers would be rounded to floats before"
        case ast.FormattedValue(value=value) | ast.Call(func=ast.Name("str"), args=[value]):
            wrong, tensors = [value], "the text would have a point"
        case ast.Call(func=ast.Attribute(attr="format"), args=arguments):
            wrong, tensors = arguments, "the text would have a point"
        case ast.Call(func=function, args=arguments, keywords=named) if _takes_tensors(code, function, named):
            wrong = [inner for one in (*arguments, *(word.value for word in named)) for inner in _inside(one)]
        case ast.Return(value=value) if value is not None:
            wrong, tensors = list(_declared(code, value, code.source.returns)), "the result would be a float"
        case ast.AnnAssign(value=value, annotation=annotation) if value is not None:
            wrong, tensors = list(_declared(code, value, annotation)), "the value would be a float"
    yield from ((one, tensors) for one in wrong if kinds.kind(one) == WRONG)


def _meets(kinds: Kinds, one: ast.expr, other: ast.expr) -> bool:
    return kinds.kind(one) == WRONG and _may_be_tensor(kinds, other)


def _may_be_tensor(kinds: Kinds, expression: ast.expr) -> bool:
    """Says whether an expression may be a tensor of integers."""
    is_none = isinstance(expression, _NO_TENSORS)
    return kinds.kind(expression) in (None, TENSOR, MASK) and not is_none and not _is_of_floats(kinds, expression)


def _is_of_floats(kinds: Kinds, expression: ast.expr) -> bool:
    """Says whether a tensor is one of floats, as far as it can be seen where it is."""
    match expression:
        case ast.UnaryOp(operand=inside) | ast.Subscript(value=inside):
            return _is_of_floats(kinds, inside)
        case ast.BinOp(op=ast.Div()):
            return True
        case ast.BinOp(left=left, right=right):
            sides = (left, right)
            return any(kinds.kind(one) == FLOAT or _is_of_floats(kinds, one) for one in sides)
        case ast.Call(func=function):
            return last_name(function) in _GIVE_FLOATS
    found = kinds.code.value(expression)
    return isinstance(found, torch.Tensor) and found.is_floating_point()


def _takes_tensors(code: Code, function: ast.expr, named: list[ast.keyword]) -> bool:
    """Says whether a function is torch's, and makes a tensor whose dtype may be that of a number."""
    name = last_name(function)
    if any(one.arg == "dtype" for one in named) or name in _DTYPE_OF_TENSOR:
        return False
    if name in _OF_FLOATS and not any(one.arg == "rounding_mode" for one in named):
        return False
    found = code.value(function)
    if found is None and isinstance(function, ast.Attribute):
        return hasattr(torch.Tensor, name) and not any(hasattr(kind, name) for kind in (list, dict, str))
    is_builtin = isinstance(found, (types.BuiltinFunctionType, type(torch.ops.aten.view)))
    return is_builtin and getattr(found, "__module__", None) not in ("math", "cmath", "builtins")


def _inside(expression: ast.expr) -> list[ast.expr]:
    """Lists the items of a list or tuple literal, or the expression itself."""
    if isinstance(expression, (ast.List, ast.Tuple)):
        return [inner for one in expression.elts for inner in _inside(one)]
    return [expression]


def _declared(code: Code, value: ast.expr, annotation: ast.expr | None) -> Iterator[ast.expr]:
    """Yields the parts of a value whose declared type leaves open that they are integers."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            annotation = ast.parse(annotation.value, mode="eval").body
        except SyntaxError:
            return
    if annotation is None:
        return
    of_each = annotation.slice if isinstance(annotation, ast.Subscript) else None
    if isinstance(value, ast.Tuple) and isinstance(of_each, ast.Tuple) and len(of_each.elts) == len(value.elts):
        for one, kind in zip(value.elts, of_each.elts, strict=True):
            yield from _declared(code, one, kind)
    elif isinstance(value, ast.Dict):
        yield from (inner for one in value.values for inner in _declared(code, one, annotation))
    elif isinstance(value, (ast.List, ast.Tuple)):
        yield from (inner for one in value.elts for inner in _declared(code, one, annotation))
    elif any(last_name(one) in ("Any", "int") for one in ast.walk(annotation) if isinstance(one, ast.expr)):
        yield value


def _rounded(kinds: Kinds, expression: ast.expr) -> ast.expr | None:
    """Returns a power in the argument of `int` of which digits may be lost. None if there is none."""
    if kinds.kind(expression) != WRONG:
        return None
    powers = [one for one in ast.walk(expression) if isinstance(one, ast.BinOp) and isinstance(one.op, ast.Pow)]
    sums = [
        one for one in ast.walk(expression) if isinstance(one, ast.BinOp) and isinstance(one.op, (ast.Add, ast.Sub))
    ]
    for power in powers:
        value = _constant(power)
        if value is not None and int(float(value)) != value:
            return power
        is_large = _constant(power.right) is None if value is None else abs(value) >= _EXACT
        is_alone = not any(power is inner for one in sums for inner in ast.walk(one))
        if is_large and kinds.kind(power) == WRONG and not is_alone:
            return power
    return None


def _written(wrong: ast.expr) -> str:
    """Words what to write for such a value."""
    cause = _cause_of(wrong)
    match cause:
        case ast.BinOp(left=ast.Constant(value=2), right=exponent):
            shown = ast.unparse(exponent)
            is_short = isinstance(exponent, (ast.Constant, ast.Name, ast.Attribute))
            return f"(1 << {shown})" if is_short else f"(1 << ({shown}))"
    return f"int({ast.unparse(cause)})"


def _constant(expression: ast.expr) -> int | None:
    """Returns the integer that an expression of literals is. None: it is none, or a very large one."""
    match expression:
        case ast.Constant(value=int(value)):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            positive = _constant(operand)
            return None if positive is None else -positive
        case ast.BinOp(left=left, op=operator, right=right):
            one, other = _constant(left), _constant(right)
            if one is None or other is None:
                return None
            match operator:
                case ast.Pow() if 0 <= other <= _LARGEST_POWER and abs(one) <= _LARGEST_POWER:
                    return int(one**other)
                case ast.Add():
                    return one + other
                case ast.Sub():
                    return one - other
                case ast.Mult():
                    return one * other
    return None


def _cause_of(wrong: ast.expr) -> ast.expr:
    """Returns the power, or the call of `round`, that makes an expression one of the wrong kind."""
    for one in ast.walk(wrong):
        if isinstance(one, ast.BinOp) and isinstance(one.op, ast.Pow):
            return one
        if isinstance(one, ast.Call) and last_name(one.func) in ("pow", "round"):
            return one
    return wrong
