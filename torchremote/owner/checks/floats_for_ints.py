"""Refuses an int of which TorchScript makes a float where the value shows it.

Note [Floats for ints]
    `2 ** n` of integers is a float in TorchScript, and so are `pow` of integers and `round`. A tensor of integers
    beside one becomes float32: `ids % 2 ** 20` and `ids + 10 ** 9` lose digits. As text it is `8.`, where the type is
    Any it is a float, and `int(2 ** 60 - 1)` is rounded before. `int(2 ** n)` is right, and so is `1 << n`.

    Refused is such a value beside what may be a tensor of integers. Beside what is known to be a tensor of floats, or a
    float, in a division and as a condition it is right. Where an int is expected, as a size, TorchScript refuses it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from typing import Final

import torch

from .kinds import Kinds, is_of_torch
from .kinds_of_values import FLOAT, FLOATS, INTEGERS, MASK, TENSOR, WRONG
from .scripted_code import Code
from .source import NO_TENSORS, last_name

_EXACT: Final = 1 << 53  # a float has each integer up to it
_COMPARED: Final = 1 << 24  # and a float32 up to this one
_LARGEST_POWER: Final = 200  # an exponent that is still calculated
_DTYPE_OF_TENSOR: Final = frozenset("fill_ full_like masked_fill masked_fill_ new_full".split())
_OF_FLOATS: Final = frozenset("div div_ linspace logspace scalar_tensor true_divide true_divide_".split())
_OF_SIZES: Final = frozenset(
    "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d avg_pool1d "
    "avg_pool2d avg_pool3d chunk conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d cumsum empty "
    "expand flatten fold interpolate lp_pool2d max_pool1d max_pool2d max_pool3d max_unpool2d narrow new_empty new_ones "
    "new_zeros one_hot ones permute pixel_shuffle pixel_unshuffle rand randn repeat reshape roll select split "
    "tensor_split tile topk transpose tril triu unflatten unfold unsqueeze upsample view zeros".split()
)
_PLACE: Final = re.compile(r'^ *File "(?P<file>[^"\n]+)", line (?P<line>\d+)$', re.MULTILINE)
_NO_INT: Final = re.compile(r"\bints?\b.* (found|of)( type)? '?[^']*\bfloat\b|index type 'float'")
"""A part of what TorchScript says of a float in the place of an int."""
_TENSOR: Final = "a tensor of integers would become one of floats"
_SIZE: Final = "TorchScript does not take it for a size, or another int"


def check_powers(kinds: Kinds) -> None:
    """Raises CreationError for such a value, with the line, and what to write."""
    code = kinds.code
    if not any(map(_is_cause, code.source.nodes)):
        return
    for node in code.source.nodes:
        for wrong, effect in _shown(code, kinds, node):
            raise code.refusal(
                node,
                f"uses `{ast.unparse(wrong)}`, which is an int in Python and a float in TorchScript, so {effect}; "
                f"write {_remedy(wrong, of_tensor=effect == _TENSOR)}",
            )
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "int" and node.args:
            power = _rounded(kinds, node.args[0])
            if power is not None:
                raise code.refusal(
                    node,
                    f"may be rounded, because `{ast.unparse(power)}` is a float in TorchScript, with 53 bits; write "
                    f"{_remedy(power)}",
                )


def check_refused_powers(all_kinds: Iterable[Kinds], said: str) -> None:
    """Raises CreationError for such a value in a line that TorchScript refused because of its type.

    Args:
        said: TorchScript's words.
    """
    places = {(place["file"], int(place["line"])) for place in _PLACE.finditer(said)} if _NO_INT.search(said) else set()
    for kinds in all_kinds if places else ():
        code, made = kinds.code, kinds.code.function.__code__
        for node in code.source.nodes:
            line = made.co_firstlineno + getattr(node, "lineno", 0) - 1
            is_refused = isinstance(getattr(node, "ctx", ast.Load()), ast.Load) and (made.co_filename, line) in places
            if is_refused and isinstance(node, ast.expr) and kinds.kind(node) == WRONG:
                raise code.refusal(node, f"is an int in Python and a float in TorchScript; write {_remedy(node)}")


def _is_cause(node: ast.AST) -> bool:
    """Says whether a part of a function is a power, or a call of `pow` or `round`."""
    if isinstance(node, (ast.BinOp, ast.AugAssign)):
        return isinstance(node.op, ast.Pow)
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("pow", "round")


def _shown(code: Code, kinds: Kinds, node: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    """Yields such values that a part of a function uses, with what would come of it."""
    wrong, effect = [], _TENSOR
    match node:
        case ast.BinOp(left=ast.Constant(value=str(text)), op=ast.Mod(), right=right):
            wrong = [one for one in _inside(right) if kinds.kind(one) == WRONG and "%s" in text]
            effect = "the text would have a point"
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
            effect = "a tensor of integers would be rounded to floats before"
        case ast.FormattedValue(value=value) | ast.Call(func=ast.Name("str"), args=[value]):
            wrong, effect = [value], "the text would have a point"
        case ast.Call(func=ast.Attribute(attr="format"), args=arguments):
            wrong, effect = arguments, "the text would have a point"
        case ast.Call(func=function, args=arguments, keywords=named) if _takes_tensors(code, function, named):
            wrong = [inner for one in (*arguments, *(word.value for word in named)) for inner in _inside(one)]
            effect = _SIZE if last_name(function) in _OF_SIZES else _TENSOR
            receiver = [function.value] if isinstance(function, ast.Attribute) else []
            if effect == _TENSOR and FLOATS in map(kinds.kind, [*receiver, *wrong]):
                wrong = []
        case ast.Return(value=value) if value is not None:
            wrong, effect = list(_declared(code, value, code.source.returns)), "the result would be a float"
        case ast.AnnAssign(value=value, annotation=annotation) if value is not None:
            wrong, effect = list(_declared(code, value, annotation)), "the value would be a float"
    yield from ((one, effect) for one in wrong if kinds.kind(one) == WRONG)


def _meets(kinds: Kinds, one: ast.expr, other: ast.expr) -> bool:
    return kinds.kind(one) == WRONG and _may_be_tensor(kinds, other)


def _may_be_tensor(kinds: Kinds, expression: ast.expr) -> bool:
    """Says whether an expression may be a tensor of integers."""
    is_none = isinstance(expression, NO_TENSORS)
    kind = kinds.kind(expression)
    return (
        kind in (None, TENSOR, MASK, INTEGERS) and not is_none and not (kind is None and _is_float(kinds, expression))
    )


def _is_float(kinds: Kinds, expression: ast.expr) -> bool:
    """Says whether a value of unknown kind is a float or a tensor of floats, since it was made with one."""
    match expression:
        case ast.UnaryOp(operand=inside) | ast.Subscript(value=inside):
            return _is_float(kinds, inside)
        case ast.BinOp(left=left, op=operator, right=right):
            sides = (left, right)
            return isinstance(operator, ast.Div) or any(
                kinds.kind(one) in (FLOAT, FLOATS) or _is_float(kinds, one) for one in sides
            )
    return False


def _takes_tensors(code: Code, function: ast.expr, named: list[ast.keyword]) -> bool:
    """Says whether a function is torch's, and takes a number as a size, or makes a tensor that may have its dtype."""
    name = last_name(function)
    if any(one.arg == "dtype" for one in named) or name in _DTYPE_OF_TENSOR:
        return False
    if name in _OF_FLOATS and not any(one.arg == "rounding_mode" for one in named):
        return False
    found = code.value(function)
    if found is None and isinstance(function, ast.Attribute):
        return hasattr(torch.Tensor, name) and not any(hasattr(kind, name) for kind in (list, dict, str))
    return is_of_torch(found)


def _inside(expression: ast.expr) -> list[ast.expr]:
    """Lists the items of a list or tuple literal, or the expression itself."""
    if isinstance(expression, (ast.List, ast.Tuple)):
        return [inner for one in expression.elts for inner in _inside(one)]
    return [expression]


def _declared(code: Code, value: ast.expr, annotation: ast.expr | None) -> Iterator[ast.expr]:
    """Yields the parts of a value whose declared type leaves open that they are integers."""
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
    powers = [one for one in ast.walk(expression) if isinstance(one, ast.BinOp) and _is_cause(one)]
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


def _remedy(wrong: ast.expr, *, of_tensor: bool = False) -> str:
    """Words what to write for such a value: for each power, and each call of `round`, that makes it one.

    Args:
        of_tensor: a tensor meets it, which may have floats.
    """
    causes = list(_causes_in(wrong)) or [wrong]
    remedy = ", and ".join(f"`{_written(one)}` for `{ast.unparse(one)}`" for one in causes)
    match causes:
        case [ast.BinOp(left=base, op=ast.Pow(), right=exponent)] if of_tensor:
            floats: ast.expr = ast.Call(ast.Name("float"), [base], [])
            if isinstance(base, ast.Constant) and isinstance(base.value, int):
                floats = ast.Constant(float(base.value))
            shown = ast.unparse(ast.BinOp(floats, ast.Pow(), exponent))
            return f"{remedy}, or `{shown}` if the tensor has floats"
    return remedy


def _written(cause: ast.expr) -> str:
    """Writes a power or a call of `round` so that it is the same number in TorchScript, as an int."""
    value = _constant(cause)
    if value is not None and int(float(value)) != value:
        return str(value)
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


def _causes_in(wrong: ast.expr) -> Iterator[ast.expr]:
    """Yields the outermost powers, and calls of `pow` and `round`, in an expression."""
    if _is_cause(wrong):
        yield wrong
    elif not isinstance(wrong, ast.Call):
        for inside in ast.iter_child_nodes(wrong):
            if isinstance(inside, ast.expr):
                yield from _causes_in(inside)
