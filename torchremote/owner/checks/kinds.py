"""Tells the numbers, bools and tensors of a function apart, as far as its source says."""

from __future__ import annotations

import ast
import types
from functools import cached_property
from typing import Final

import torch

from .scripted_code import Code
from .source import last_name

SIZES: Final = frozenset("dim len ndimension numel size storage_offset stride".split())
"""Functions and methods of tensors that give integers."""
OPERATORS: Final = (ast.BitAnd, ast.BitOr, ast.BitXor)
"""Those that make a mask of two."""
_NO_TENSORS: Final = SIZES | frozenset(
    "allclose equal get_device is_complex is_contiguous is_floating_point is_nonzero item tolist".split()
)
_FACTORIES: Final = frozenset("arange eye full full_like ones ones_like tensor tril triu zeros zeros_like".split())
_MASKS: Final = frozenset("isnan isinf isfinite logical_and logical_or logical_xor logical_not bool".split())


def may_be_torchs(function: object) -> bool:
    """Says whether a function is torch's, or unknown to the search, as a tensor's method is."""
    return function is None or isinstance(function, (types.BuiltinFunctionType, type(torch.ops.aten.view)))


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


class Kinds:
    """Knows the local names of a function by what they are."""

    def __init__(self, code: Code) -> None:
        self._code = code

    @cached_property
    def _numbers(self) -> set[str]:
        return number_names(self._code)

    @cached_property
    def _bools(self) -> set[str]:
        return self._code.names(lambda annotation: bool in self._code.alternatives(annotation), self._is_bool)

    @cached_property
    def _lists(self) -> set[str]:
        """Lists and dicts of tensors."""
        return self._code.names(
            lambda annotation: torch.Tensor in self._code.item_types(annotation), lambda value, names: False
        )

    @cached_property
    def _tensors(self) -> set[str]:
        return self._code.names(self._declares_tensor, self._is_tensor) - self._code.local.keys()

    @cached_property
    def _masks(self) -> set[str]:
        return self._code.names(lambda annotation: False, self._is_mask)

    def is_number(self, expression: ast.expr) -> bool:
        """Says whether an expression is an int or a float."""
        return is_number(self._code, expression, self._numbers)

    def is_bool(self, expression: ast.expr) -> bool:
        """Says whether an expression is a bool."""
        return self._is_bool(expression, self._bools)

    def is_tensor(self, expression: ast.expr) -> bool:
        """Says whether an expression is a tensor."""
        return self._is_tensor(expression, self._tensors)

    def is_mask(self, expression: ast.expr) -> bool:
        """Says whether an expression is a tensor of bools."""
        return self._is_mask(expression, self._masks)

    def gives_view(self, index: ast.expr) -> bool:
        """Says whether an index of a tensor gives a view of it: numbers and slices do, tensors and lists do not."""
        if isinstance(index, ast.Tuple):
            return all(map(self.gives_view, index.elts))
        is_written = isinstance(index, ast.Constant) and (index.value is None or index.value is ...)
        return is_written or isinstance(index, ast.Slice) or self.is_number(index)

    def _is_mask(self, expression: ast.expr, names: set[str]) -> bool:
        match expression:
            case ast.Name(name):
                return name in names
            case ast.Compare():
                return self._is_tensor(expression, self._tensors)
            case ast.UnaryOp(op=ast.Invert(), operand=operand):
                return self._is_mask(operand, names)
            case ast.BinOp(left=left, op=operator, right=right) if isinstance(operator, OPERATORS):
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
                return all(self.is_number(one) for one in sides) or any(map(self._is_text, sides))
            case ast.Call(func=ast.Name("bool" | "isinstance")):
                return True
            case ast.Constant(value=value):
                return isinstance(value, bool)
        return isinstance(self._code.value(expression), bool)

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
            case ast.Subscript(value=ast.Name(name)) if name in self._lists:
                return True
            case ast.Subscript(value=value) if self._is_tensor(value, names):
                return True
            case ast.Call(func=function) if (returned := self._code.returned(function)) in ("a tensor", "no tensor"):
                return returned == "a tensor"
            case ast.Call(func=ast.Attribute(value=receiver, attr=name)) if name not in _NO_TENSORS:
                if self._is_tensor(receiver, names) or any(self._is_tensor(one, names) for one in expression.args):
                    return True
                return name in _FACTORIES and may_be_torchs(self._code.value(expression.func))
        return isinstance(self._code.value(expression), torch.Tensor)
