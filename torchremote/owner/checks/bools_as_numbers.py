"""Refuses a bool where TorchScript makes an int of it, so that a tensor of bools becomes one of integers.

Note [Bools as numbers]
    An operator of a tensor and a number takes a bool for an int in TorchScript. So `(x > 0) & self.causal` has int64,
    `~` of it is -1 or -2, and it picks rows as an index where a mask was meant. A tensor of a bool is right.

    Refused are those operators that are used for masks. In sums and products the dtype is another one, too, if the
    tensor has bools, but the search does not know that, and with all other dtypes they are right.
"""

from __future__ import annotations

import ast
from typing import Final

from ...errors import CreationError
from .kinds import OPERATORS, Kinds, may_be_torchs
from .scripted_code import Code
from .source import last_name

_FUNCTIONS: Final = frozenset(("bitwise_and", "bitwise_or", "bitwise_xor", "where"))
_OF_INTEGERS: Final = frozenset(("long", "int", "short", "char", "byte"))


def check_bools(code: Code) -> None:
    """Raises CreationError for a bool that TorchScript takes for an int, with the line, and what to write."""
    uses = [node for node in code.source.nodes if _may_convert(code, node)]
    if not uses:
        return
    kinds = Kinds(code)
    for node in uses:
        wrong, written = _converted(code, kinds, node)
        if wrong is not None:
            raise CreationError(
                f"{code.place(node)}: `{ast.unparse(node)}` passes a bool, `{ast.unparse(wrong)}`, which TorchScript "
                f"takes for an int, so the result has integers for bools; write `{written}`"
            )


def _may_convert(code: Code, node: ast.AST) -> bool:
    if isinstance(node, (ast.BinOp, ast.AugAssign)):
        return isinstance(node.op, OPERATORS)
    if isinstance(node, ast.Call):
        return last_name(node.func) in (*_FUNCTIONS, "full") and may_be_torchs(code.value(node.func))
    return False


def _is_of_integers(expression: ast.expr) -> bool:
    """Says whether a tensor is one of integers, to which an int adds nothing that a bool does not."""
    return isinstance(expression, ast.Call) and last_name(expression.func) in _OF_INTEGERS


def _converted(code: Code, kinds: Kinds, node: ast.AST) -> tuple[ast.expr | None, str]:
    """Returns what TorchScript makes an int of in an operation, and what to write there. None: nothing."""
    match node:
        case ast.BinOp(left=left, right=right) | ast.AugAssign(target=left, value=right):
            for one, other in ((left, right), (right, left)):
                is_mask = kinds.is_tensor(other) and not _is_of_integers(other)
                if kinds.is_bool(one) and is_mask:
                    return one, f"torch.tensor({ast.unparse(one)})"
        case ast.Call(func=function) if last_name(function) == "full":
            fill = next((one.value for one in node.keywords if one.arg == "fill_value"), None)
            fill = node.args[1] if fill is None and len(node.args) > 1 else fill
            has_dtype = any(one.arg in ("dtype", "out") for one in node.keywords)
            is_torchs = isinstance(function, ast.Name) or code.value(function) is not None
            if fill is not None and not has_dtype and is_torchs and kinds.is_bool(fill):
                return fill, "dtype=torch.bool"
        case ast.Call(func=ast.Attribute(value=receiver)) if code.value(node.func) is None:
            if kinds.is_tensor(receiver):  # a method of a tensor, and no one else's
                return _converted_argument(kinds, node, [*node.args[:1], receiver, *node.args[1:]])
        case ast.Call(args=arguments):
            return _converted_argument(kinds, node, arguments)
    return None, ""


def _converted_argument(kinds: Kinds, call: ast.Call, arguments: list[ast.expr]) -> tuple[ast.expr | None, str]:
    """Does as `_converted`, for a function. `arguments`: those by position; a method's tensor is the second."""
    given = [*arguments, *(one.value for one in call.keywords)]
    bools = [one for one in given if kinds.is_bool(one)]
    others = [one for one in given if one not in bools]
    if last_name(call.func) == "where":
        is_right = not all(kinds.is_mask(one) for one in others[1:])  # that of a float and a bool is
    else:
        is_right = any(map(_is_of_integers, others))
    return (None, "") if is_right or not bools else (bools[0], f"torch.tensor({ast.unparse(bools[0])})")
