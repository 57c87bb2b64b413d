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

import torch

from ...errors import CreationError
from .dtypes_as_sizes import may_be_torchs
from .numbers_as_bools import SIZES, is_number, number_names
from .scripted_code import Code, last_name

_OPERATORS: Final = (ast.BitAnd, ast.BitOr, ast.BitXor)
_FUNCTIONS: Final = frozenset(("bitwise_and", "bitwise_or", "bitwise_xor", "where"))
_NO_TENSORS: Final = SIZES | frozenset(
    "allclose equal get_device is_complex is_contiguous is_floating_point is_nonzero item tolist".split()
)
_FACTORIES: Final = frozenset("arange eye full full_like ones ones_like tensor tril triu zeros zeros_like".split())
_MASKS: Final = frozenset("isnan isinf isfinite logical_and logical_or logical_xor logical_not bool".split())
_OF_INTEGERS: Final = frozenset(("long", "int", "short", "char", "byte"))


def check_bools(code: Code) -> None:
    """Raises CreationError for a bool that TorchScript takes for an int, with the line, and what to write."""
    uses = [node for node in code.source.nodes if _may_convert(code, node)]
    if not uses:
        return
    kinds = _Kinds(code)
    for node in uses:
        wrong, written = kinds.converted(node)
        if wrong is not None:
            raise CreationError(
                f"{code.place(node)}: `{ast.unparse(node)}` passes a bool, `{ast.unparse(wrong)}`, which TorchScript "
                f"takes for an int, so the result has integers for bools; write `{written}`"
            )


def _may_convert(code: Code, node: ast.AST) -> bool:
    if isinstance(node, (ast.BinOp, ast.AugAssign)):
        return isinstance(node.op, _OPERATORS)
    if isinstance(node, ast.Call):
        return last_name(node.func) in (*_FUNCTIONS, "full") and may_be_torchs(code.value(node.func))
    return False


def _is_of_integers(expression: ast.expr) -> bool:
    """Says whether a tensor is one of integers, to which an int adds nothing that a bool does not."""
    return isinstance(expression, ast.Call) and last_name(expression.func) in _OF_INTEGERS


class _Kinds:
    """Tells the bools and the tensors of a function apart, as far as its source says."""

    def __init__(self, code: Code) -> None:
        self._code = code
        self._numbers = number_names(code)
        self._bools = code.names(lambda annotation: bool in code.alternatives(annotation), self._is_bool)
        self._tensors = code.names(self._declares_tensor, self._is_tensor) - code.local.keys()
        self._masks = code.names(lambda annotation: False, self._is_mask)

    def converted(self, node: ast.AST) -> tuple[ast.expr | None, str]:
        """Returns what TorchScript makes an int of in an operation, and what to write there. None: nothing."""
        match node:
            case ast.BinOp(left=left, right=right) | ast.AugAssign(target=left, value=right):
                for one, other in ((left, right), (right, left)):
                    is_mask = self._is_tensor(other, self._tensors) and not _is_of_integers(other)
                    if self._is_bool(one, self._bools) and is_mask:
                        return one, f"torch.tensor({ast.unparse(one)})"
            case ast.Call(func=function) if last_name(function) == "full":
                fill = next((one.value for one in node.keywords if one.arg == "fill_value"), None)
                fill = node.args[1] if fill is None and len(node.args) > 1 else fill
                has_dtype = any(one.arg in ("dtype", "out") for one in node.keywords)
                is_torchs = isinstance(function, ast.Name) or self._code.value(function) is not None
                if fill is not None and not has_dtype and is_torchs and self._is_bool(fill, self._bools):
                    return fill, "dtype=torch.bool"
            case ast.Call(func=ast.Attribute(value=receiver)) if self._code.value(node.func) is None:
                if self._is_tensor(receiver, self._tensors):  # a method of a tensor, and no one else's
                    return self._converted_argument(node, [*node.args[:1], receiver, *node.args[1:]])
            case ast.Call(args=arguments):
                return self._converted_argument(node, arguments)
        return None, ""

    def _converted_argument(self, call: ast.Call, arguments: list[ast.expr]) -> tuple[ast.expr | None, str]:
        """Does as `converted`, for a function. `arguments`: those by position; a method's tensor is the second."""
        given = [*arguments, *(one.value for one in call.keywords)]
        bools = [one for one in given if self._is_bool(one, self._bools)]
        others = [one for one in given if one not in bools]
        if last_name(call.func) == "where":
            is_right = not all(self._is_mask(one, self._masks) for one in others[1:])  # that of a float and a bool is
        else:
            is_right = any(map(_is_of_integers, others))
        return (None, "") if is_right or not bools else (bools[0], f"torch.tensor({ast.unparse(bools[0])})")

    def _is_mask(self, expression: ast.expr, names: set[str]) -> bool:
        """Says whether an expression is a tensor of bools."""
        match expression:
            case ast.Name(name):
                return name in names
            case ast.Compare():
                return self._is_tensor(expression, self._tensors)
            case ast.UnaryOp(op=ast.Invert(), operand=operand):
                return self._is_mask(operand, names)
            case ast.BinOp(left=left, op=operator, right=right) if isinstance(operator, _OPERATORS):
                return self._is_mask(left, names) and self._is_mask(right, names)
            case ast.Call(func=function):
                return last_name(function) in _MASKS
        return False

    def _declares_tensor(self, annotation: ast.expr | None) -> bool:
        return annotation is None or torch.Tensor in self._code.alternatives(annotation)  # None: as TorchScript has it

    def _is_bool(self, expression: ast.expr, names: set[str]) -> bool:
        match expression:
            case ast.Name(name) if name in names:
                return True
            case ast.UnaryOp(op=ast.Not()):
                return True
            case ast.BoolOp(values=values):
                return all(self._is_bool(value, names) for value in values)
            case ast.IfExp(body=body, orelse=orelse):
                return self._is_bool(body, names) and self._is_bool(orelse, names)
            case ast.Compare(left=left, comparators=others):
                if all(isinstance(operator, (ast.Is, ast.IsNot, ast.In, ast.NotIn)) for operator in expression.ops):
                    return True
                sides = (left, *others)
                return all(self._is_number(one) for one in sides) or any(map(self._is_text, sides))
            case ast.Call(func=ast.Name("bool" | "isinstance")):
                return True
            case ast.Constant(value=value):
                return isinstance(value, bool)
        return isinstance(self._code.value(expression), bool)

    def _is_number(self, expression: ast.expr) -> bool:
        return is_number(self._code, expression, self._numbers)

    def _is_text(self, expression: ast.expr) -> bool:
        value = expression.value if isinstance(expression, ast.Constant) else self._code.value(expression)
        return isinstance(value, str)

    def _is_tensor(self, expression: ast.expr, names: set[str]) -> bool:
        match expression:
            case ast.Name(name) if name in names:
                return True
            case ast.UnaryOp(operand=operand):
                return self._is_tensor(operand, names)
            case ast.BinOp(left=left, right=right):
                return self._is_tensor(left, names) or self._is_tensor(right, names)
            case ast.Compare(left=left, comparators=others):
                return any(self._is_tensor(side, names) for side in (left, *others))
            case ast.Subscript(value=value):
                return self._is_tensor(value, names)
            case ast.Call(func=ast.Attribute(value=receiver, attr=name)) if name not in _NO_TENSORS:
                if self._is_tensor(receiver, names) or any(self._is_tensor(one, names) for one in expression.args):
                    return True
                return name in _FACTORIES and may_be_torchs(self._code.value(expression.func))
        return isinstance(self._code.value(expression), torch.Tensor)
