"""Refuses a bool where TorchScript makes an int of it, so that a tensor of bools becomes one of integers.

Note [Bools as numbers]
    An operator of a tensor and a number takes a bool for an int in TorchScript. So `(x > 0) & self.causal` has int64,
    `~` of it is -1 or -2, and it picks rows as an index where a mask was meant. A tensor of a bool is right.

    Refused are those operators that are used for masks, unless the other value is known to have no bools. Sums,
    products and powers are wrong beside bools alone, so they are refused where the tensor is known to have bools.
    Right are `fill_`, `full_like`, `new_full`, `masked_fill`, `index_fill`, `scatter`, comparisons, `torch.tensor` and
    `torch.scalar_tensor`.
"""

from __future__ import annotations

import ast
from typing import Final

from .kinds import Kinds, is_of_torch, may_be_torchs
from .kinds_of_values import BOOL, FLOATS, INTEGERS, MASK, NUMBERS, OPERATORS
from .scripted_code import Code
from .source import last_name

_FUNCTIONS: Final = frozenset(("bitwise_and", "bitwise_or", "bitwise_xor", "where"))
_ARITHMETIC: Final = (ast.Add, ast.Mult, ast.Pow)
_OF_MASKS: Final = frozenset(("add", "mul", "multiply", "pow"))


def check_bools(kinds: Kinds) -> None:
    """Raises CreationError for a bool that TorchScript takes for an int, with the line, and what to write."""
    code = kinds.code
    for node in code.source.nodes:
        bools = _converted(code, kinds, node) if _may_convert(code, node) else []
        if bools:
            shown = list(dict.fromkeys(map(ast.unparse, bools)))
            what, number = ("a bool", "an int") if len(shown) == 1 else ("bools", "ints")
            written = [f"torch.tensor({one})" for one in shown]
            if isinstance(node, ast.Call) and last_name(node.func) == "full":
                written = ["dtype=torch.bool"]
            raise code.refusal(
                node,
                f"passes {what}, {_listed(shown)}, which TorchScript takes for {number}, so the result has integers "
                f"for bools; write {_listed(written)}",
            )


def _listed(shown: list[str]) -> str:
    return " and ".join(f"`{one}`" for one in shown)


def _may_convert(code: Code, node: ast.AST) -> bool:
    if isinstance(node, (ast.BinOp, ast.AugAssign)):
        return isinstance(node.op, (*OPERATORS, *_ARITHMETIC))
    if isinstance(node, ast.Call):
        return last_name(node.func) in (*_FUNCTIONS, *_OF_MASKS, "full") and may_be_torchs(code.value(node.func))
    return False


def _converted(code: Code, kinds: Kinds, node: ast.AST) -> list[ast.expr]:
    """Returns the bools of which TorchScript makes ints in an operation."""
    match node:
        case ast.BinOp(left=left, right=right) | ast.AugAssign(target=left, value=right):
            is_arithmetic = isinstance(node.op, _ARITHMETIC)
            for one, other in ((left, right), (right, left)):
                kind = kinds.kind(other)
                wrong = kind == MASK if is_arithmetic else kinds.is_tensor(other) and kind != INTEGERS
                if kinds.is_bool(one) and wrong:
                    return [one]
        case ast.Call(func=function) if last_name(function) == "full":
            fill = next((one.value for one in node.keywords if one.arg == "fill_value"), None)
            fill = node.args[1] if fill is None and len(node.args) > 1 else fill
            has_dtype = any(one.arg in ("dtype", "out") for one in node.keywords)
            is_torchs = isinstance(function, ast.Name) or code.value(function) is not None
            if fill is not None and not has_dtype and is_torchs and kinds.is_bool(fill):
                return [fill]
        case ast.Call(func=ast.Attribute(value=receiver)) if code.value(node.func) is None:
            if kinds.is_tensor(receiver):  # a method of a tensor, and no one else's
                return _converted_arguments(kinds, node, [*node.args[:1], receiver, *node.args[1:]])
        case ast.Call(func=function, args=arguments) if is_of_torch(code.value(function)):
            return _converted_arguments(kinds, node, arguments)
    return []


def _converted_arguments(kinds: Kinds, call: ast.Call, arguments: list[ast.expr]) -> list[ast.expr]:
    """Does as `_converted`, for a function. `arguments`: those by position; a method's tensor is the second."""
    named = [one.value for one in call.keywords if one.arg != "condition"]
    is_where = last_name(call.func) == "where"
    given = [*(arguments[1:] if is_where and len(named) == len(call.keywords) else arguments), *named]
    bools = [one for one in given if kinds.is_bool(one)]
    others = {kinds.kind(one) for one in given} - {BOOL}
    if is_where:
        has_another = not others.isdisjoint((FLOATS, INTEGERS, *NUMBERS))
    elif last_name(call.func) in _OF_MASKS:
        has_another = others != {MASK}
    else:
        has_another = INTEGERS in others
    return [] if has_another else bools
