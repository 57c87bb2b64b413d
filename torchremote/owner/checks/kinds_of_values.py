"""Names the kinds of numbers, bools and tensors, and says which kind comes of two."""

from __future__ import annotations

import ast
from typing import Final

import torch

BOOL: Final = "bool"
INT: Final = "int"
FLOAT: Final = "float"
NUMBER: Final = "number"  # an int or a float
WRONG: Final = "wrong"  # an int in Python, a float in TorchScript: see floats_for_ints.py
TENSOR: Final = "tensor"  # of any dtype
MASK: Final = "mask"  # a tensor of bools
FLOATS: Final = "floats"  # a tensor of floats or of complex numbers, of any size
INTEGERS: Final = "integers"  # a tensor of integers
TENSORS: Final = "tensors"  # a list or dict of tensors

NUMBERS: Final = (INT, FLOAT, NUMBER, WRONG)
TENSOR_KINDS: Final = (TENSOR, MASK, FLOATS, INTEGERS)
OPERATORS: Final = (ast.BitAnd, ast.BitOr, ast.BitXor)
"""Those that make a mask of two."""
_OF_INTEGERS: Final = frozenset((INTEGERS, MASK, INT, BOOL))


def kind_of_value(value: object) -> str | None:
    """Returns the kind that a value has. None: none of those above."""
    if isinstance(value, torch.Tensor):
        return kind_of_dtype(value.dtype)
    for kind, cls in ((BOOL, bool), (INT, int), (FLOAT, float)):
        if isinstance(value, cls):
            return kind
    return None


def kind_of_dtype(dtype: object) -> str:
    """Returns the kind of a tensor with a dtype. TENSOR if it is not known, and no dtype."""
    if not isinstance(dtype, torch.dtype):
        return TENSOR
    if dtype == torch.bool:
        return MASK
    return FLOATS if dtype.is_floating_point or dtype.is_complex else INTEGERS


def kind_of_type(declared: object) -> str | None:
    """Returns the kind of the values of a type, or of the one that a text names."""
    for kind, cls in ((BOOL, bool), (INT, int), (FLOAT, float), (TENSOR, torch.Tensor)):
        if declared is cls or declared == cls.__name__:
            return kind
    return None


def either(one: str | None, other: str | None) -> str | None:
    """Returns the kind of one of two values. TorchScript gives both one type."""
    if one == other:
        return one
    if one in TENSOR_KINDS or other in TENSOR_KINDS:
        return TENSOR
    return joined(one, other)


def joined(one: str | None, other: str | None) -> str | None:
    """Returns the kind of an arithmetic result of two numbers."""
    if one not in (BOOL, *NUMBERS) or other not in (BOOL, *NUMBERS):
        return None
    return next((kind for kind in (FLOAT, WRONG, NUMBER) if kind in (one, other)), INT)


def promoted(*kinds: str | None) -> str:
    """Returns the kind of a tensor that is made of several tensors and numbers, as sums and `torch.where` do."""
    if FLOATS in kinds or FLOAT in kinds:
        return FLOATS
    return INTEGERS if INTEGERS in kinds and _OF_INTEGERS.issuperset(kinds) else TENSOR


def result(operator: ast.operator, right: ast.expr, one: str | None, other: str | None) -> str | None:
    """Returns the kind of what an operator makes of two values. `right`: the second."""
    if one in TENSOR_KINDS or other in TENSOR_KINDS:
        if isinstance(operator, OPERATORS) and one == other == MASK:
            return MASK
        return FLOATS if isinstance(operator, ast.Div) else promoted(one, other)
    both = joined(one, other)
    if isinstance(operator, ast.Div):
        return both and FLOAT
    if isinstance(operator, ast.Pow) and both in (INT, WRONG):
        is_negative = isinstance(right, ast.UnaryOp) and isinstance(right.op, ast.USub)
        return FLOAT if is_negative else WRONG
    if isinstance(operator, OPERATORS) and one == other == BOOL:
        return BOOL
    return both
