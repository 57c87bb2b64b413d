"""Tells the numbers, bools and tensors of a function apart, as far as its source says."""

from __future__ import annotations

import ast
import types
from typing import Final

import torch

from .scripted_code import Code
from .source import last_name

BOOL: Final = "bool"
INT: Final = "int"
FLOAT: Final = "float"
NUMBER: Final = "number"  # an int or a float
WRONG: Final = "wrong"  # an int in Python, a float in TorchScript: see floats_for_ints.py
TENSOR: Final = "tensor"
MASK: Final = "mask"  # a tensor of bools
TENSORS: Final = "tensors"  # a list or dict of tensors

NUMBERS: Final = (INT, FLOAT, NUMBER, WRONG)
OPERATORS: Final = (ast.BitAnd, ast.BitOr, ast.BitXor)
"""Those that make a mask of two."""
_TESTS: Final = (ast.Is, ast.IsNot, ast.In, ast.NotIn)
_SIZES: Final = frozenset("dim ndimension numel size storage_offset stride".split())
"""Functions and methods of tensors that give integers."""
_NO_TENSORS: Final = _SIZES | frozenset(
    "allclose equal get_device is_complex is_contiguous is_floating_point is_nonzero item len tolist".split()
)
_FACTORIES: Final = frozenset("arange eye full full_like ones ones_like tensor tril triu zeros zeros_like".split())
_MASKS: Final = frozenset("isnan isinf isfinite logical_and logical_or logical_xor logical_not bool".split())


def may_be_torchs(function: object) -> bool:
    """Says whether a function is torch's, or unknown to the search, as a tensor's method is."""
    return function is None or isinstance(function, (types.BuiltinFunctionType, type(torch.ops.aten.view)))


class Kinds:
    """Knows the kinds of a function's expressions. TorchScript gives a name one type, so each has one kind."""

    def __init__(self, code: Code) -> None:
        self.code = code
        self._names: dict[str, str] = {}
        for argument in code.source.arguments:
            self._learn(ast.Name(argument.arg), _declared(code, argument.annotation, is_argument=True))
        given = list(code.source.given)
        for node in code.source.nodes:
            if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
                before = ast.Name(node.target.id, ast.Load())
                given.append((node.target, ast.BinOp(before, node.op, node.value), False))
        given.sort(key=lambda one: one[0].lineno)
        for target, value, loops in given * 2:  # a loop may use what is assigned below it
            if not loops:
                self._learn(target, self.kind(value))
            elif self.kind(value) in (TENSOR, MASK, TENSORS):
                self._learn(target, TENSOR)
        for node in code.source.nodes:
            if isinstance(node, ast.AnnAssign):
                self._learn(node.target, _declared(code, node.annotation))

    def _learn(self, target: ast.expr, kind: str | None) -> None:
        if isinstance(target, ast.Name) and kind is not None:
            self._names[target.id] = kind

    def is_number(self, expression: ast.expr) -> bool:
        """Says whether an expression is an int or a float."""
        return self.kind(expression) in NUMBERS

    def is_bool(self, expression: ast.expr) -> bool:
        """Says whether an expression is a bool."""
        return self.kind(expression) == BOOL

    def is_tensor(self, expression: ast.expr) -> bool:
        """Says whether an expression is a tensor."""
        return self.kind(expression) in (TENSOR, MASK)

    def is_mask(self, expression: ast.expr) -> bool:
        """Says whether an expression is a tensor of bools."""
        return self.kind(expression) == MASK

    def gives_view(self, index: ast.expr) -> bool:
        """Says whether an index of a tensor gives a view of it: numbers and slices do, tensors and lists do not."""
        if isinstance(index, ast.Tuple):
            return all(map(self.gives_view, index.elts))
        is_written = isinstance(index, ast.Constant) and (index.value is None or index.value is ...)
        return is_written or isinstance(index, ast.Slice) or self.is_number(index)

    def kind(self, expression: ast.expr) -> str | None:
        """Returns which of the kinds above an expression is. None: another one, or it is not known."""
        match expression:
            case ast.Name(name) if name in self._names:
                return self._names[name]
            case ast.Constant(value=value):
                return _kind_of(value)
            case ast.UnaryOp(op=ast.Not()):
                return BOOL
            case ast.UnaryOp(op=operator, operand=operand):
                kind = self.kind(operand)
                return {BOOL: INT, MASK: MASK if isinstance(operator, ast.Invert) else TENSOR}.get(kind or "", kind)
            case ast.BinOp(left=left, op=operator, right=right):
                return _result(operator, right, self.kind(left), self.kind(right))
            case ast.BoolOp(values=values):
                return BOOL if all(map(self.is_bool, values)) else None
            case ast.Compare(left=left, comparators=others):
                return self._kind_of_comparison(expression.ops, [left, *others])
            case ast.IfExp(body=body, orelse=orelse):
                return _either(self.kind(body), self.kind(orelse))
            case ast.Call():
                return self._kind_of_call(expression)
            case ast.Subscript(value=value, slice=index):
                if last_name(value) == "shape" and not isinstance(index, ast.Slice):
                    return INT
                if (kind := self.kind(value)) in (TENSOR, MASK, TENSORS):
                    return TENSOR if kind == TENSORS else kind
        return _kind_of(self.code.value(expression))

    def _kind_of_comparison(self, operators: list[ast.cmpop], sides: list[ast.expr]) -> str | None:
        kinds = [self.kind(side) for side in sides]
        if all(isinstance(operator, _TESTS) for operator in operators):
            return BOOL
        if any(kind in (TENSOR, MASK) for kind in kinds):
            return MASK
        is_known = all(kind in (BOOL, *NUMBERS) for kind in kinds) or any(map(self._is_text, sides))
        return BOOL if is_known else None

    def _is_text(self, expression: ast.expr) -> bool:
        value = expression.value if isinstance(expression, ast.Constant) else self.code.value(expression)
        return isinstance(value, str)

    def _kind_of_call(self, call: ast.Call) -> str | None:
        name, given, found = last_name(call.func), call.args, self.code.value(call.func)
        if isinstance(call.func, ast.Name) and (kind := self._kind_of_builtin(name, given)) is not None:
            return kind
        if getattr(found, "__module__", None) == "math":
            return INT if name in ("ceil", "factorial", "floor", "gcd") else FLOAT
        returned = self.code.returned(call.func)
        if returned == "a tensor":
            return TENSOR
        if isinstance(found, types.FunctionType):
            return _kind_of_type(found.__annotations__.get("return"))
        if returned == "no tensor" or not isinstance(call.func, ast.Attribute):
            return None
        if name in _NO_TENSORS:
            is_list = name in ("size", "stride") and not given
            return NUMBER if name == "item" else INT if name in _SIZES and not is_list else None
        is_tensor = any(self.is_tensor(one) for one in (call.func.value, *given))
        if name in _MASKS and may_be_torchs(found):
            return MASK
        return TENSOR if is_tensor or (name in _FACTORIES and may_be_torchs(found)) else None

    def _kind_of_builtin(self, name: str, given: list[ast.expr]) -> str | None:
        """Returns the kind of the result of one of Python's functions. None: it is none of these."""
        kinds = [self.kind(one) for one in given]
        match name, given:
            case ("int" | "len" | "ord", _):
                return INT
            case ("float", _):
                return FLOAT
            case ("bool" | "isinstance", _):
                return BOOL
            case ("pow", [_, power]):
                return _result(ast.Pow(), power, kinds[0], kinds[1])
            case ("round", [_]) if kinds[0] in (BOOL, *NUMBERS):
                return WRONG
            case ("abs", [_]):
                return kinds[0]
            case ("max" | "min", [_, _]):
                return _joined(kinds[0], kinds[1])
        return None


def _declared(code: Code, annotation: ast.expr | None, *, is_argument: bool = False) -> str | None:
    """Returns the kind that an annotation means."""
    if annotation is None and is_argument:
        return TENSOR  # as TorchScript has it
    if torch.Tensor in code.item_types(annotation):
        return TENSORS
    kinds = {_kind_of_type(one) for one in code.alternatives(annotation) if one is not None}
    if TENSOR in kinds:
        return TENSOR
    if kinds == {INT, FLOAT}:
        return NUMBER
    return kinds.pop() if len(kinds) == 1 else None


def _kind_of_type(declared: object) -> str | None:
    for kind, cls in ((BOOL, bool), (INT, int), (FLOAT, float), (TENSOR, torch.Tensor)):
        if declared is cls or declared == cls.__name__:
            return kind
    return None


def _kind_of(value: object) -> str | None:
    if isinstance(value, torch.Tensor):
        return MASK if value.dtype == torch.bool else TENSOR
    for kind, cls in ((BOOL, bool), (INT, int), (FLOAT, float)):
        if isinstance(value, cls):
            return kind
    return None


def _either(one: str | None, other: str | None) -> str | None:
    """Returns the kind of one of two values."""
    if one == other:
        return one
    return TENSOR if {one, other} == {TENSOR, MASK} else _joined(one, other)


def _joined(one: str | None, other: str | None) -> str | None:
    """Returns the kind of an arithmetic result of two numbers."""
    if one not in (BOOL, *NUMBERS) or other not in (BOOL, *NUMBERS):
        return None
    return next((kind for kind in (FLOAT, WRONG, NUMBER) if kind in (one, other)), INT)


def _result(operator: ast.operator, right: ast.expr, one: str | None, other: str | None) -> str | None:
    if TENSOR in (one, other) or MASK in (one, other):
        return MASK if isinstance(operator, OPERATORS) and one == other == MASK else TENSOR
    joined = _joined(one, other)
    if isinstance(operator, ast.Div):
        return joined and FLOAT
    if isinstance(operator, ast.Pow) and joined in (INT, WRONG):
        is_negative = isinstance(right, ast.UnaryOp) and isinstance(right.op, ast.USub)
        return FLOAT if is_negative else WRONG
    if isinstance(operator, OPERATORS) and one == other == BOOL:
        return BOOL
    return joined
