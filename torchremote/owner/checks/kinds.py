"""Tells the numbers, bools and tensors of a function apart, as far as its source says."""

from __future__ import annotations

import ast
import functools
import types
from collections.abc import Iterable
from typing import Final

import torch

from .kinds_of_names import Names
from .kinds_of_results import kind_of_part, kind_of_result
from .kinds_of_values import (
    BOOL,
    FLOAT,
    FLOATS,
    INT,
    INTEGERS,
    MASK,
    NUMBER,
    NUMBERS,
    TENSOR,
    TENSOR_KINDS,
    TENSORS,
    WRONG,
    either,
    joined,
    kind_of_dtype,
    kind_of_type,
    kind_of_value,
    result,
)
from .scripted_code import Code
from .source import last_name

_TESTS: Final = (ast.Is, ast.IsNot, ast.In, ast.NotIn)
_SIZES: Final = frozenset("dim ndimension numel size storage_offset stride".split())
"""Functions and methods of tensors that give integers."""
_NO_TENSORS: Final = _SIZES | frozenset(
    "allclose equal get_device is_complex is_contiguous is_floating_point is_nonzero item len tolist".split()
)
_FACTORIES: Final = frozenset("arange eye full full_like ones ones_like tensor tril triu zeros zeros_like".split())
_SAME_DTYPE: Final = frozenset("H T data grad mH mT".split())


def may_be_torchs(function: object) -> bool:
    """Says whether a function is torch's, or unknown to the search, as a tensor's method is."""
    return function is None or isinstance(function, (types.BuiltinFunctionType, type(torch.ops.aten.view)))


def kinds_of(codes: Iterable[Code]) -> list[Kinds]:
    """Returns the kinds of each function of a search."""
    return list(map(_Search().of, codes))


class _Search:
    """Holds the kinds of all functions of one search, and of those that they call: those of each are found once."""

    def __init__(self) -> None:
        self._known: dict[object, Kinds] = {}

    def of(self, code: Code) -> Kinds:
        """Returns the kinds of a function."""
        key = (code.function, *((name, *map(id, modules)) for name, modules in code.local.items()))
        if key not in self._known:
            self._known[key] = Kinds(code, self)
        return self._known[key]


class Kinds:
    """Knows the kinds of a function's expressions. It goes through the function when it is first asked."""

    def __init__(self, code: Code, search: _Search) -> None:
        self.code = code
        self.of = search.of
        self._followed: Names | None = None
        self._returned: list[str | None] = []  # one: of what it returns

    def _names(self) -> Names:
        if self._followed is None:
            code = self.code
            names = Names(self.kind, lambda annotation: _declared(code, annotation), self._has_parts)
            self._followed, self._returned = names, [self._declared_tensor()]  # `kind` asks for both meanwhile
            for argument in code.source.arguments:
                names.learn(argument.arg, _declared(code, argument.annotation, is_argument=True))
            names.follow(code.source.body)
            self._returned = []
        return self._followed

    @functools.cached_property
    def _changed(self) -> set[str]:
        """The names of attributes that the function assigns."""
        nodes = self.code.source.nodes
        return {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}

    def is_number(self, expression: ast.expr) -> bool:
        """Says whether an expression is an int or a float."""
        return self.kind(expression) in NUMBERS

    def is_bool(self, expression: ast.expr) -> bool:
        """Says whether an expression is a bool."""
        return self.kind(expression) == BOOL

    def is_tensor(self, expression: ast.expr) -> bool:
        """Says whether an expression is a tensor."""
        return self.kind(expression) in TENSOR_KINDS

    def gives_view(self, index: ast.expr) -> bool:
        """Says whether an index of a tensor gives a view of it: numbers and slices do, tensors and lists do not."""
        if isinstance(index, ast.Tuple):
            return all(map(self.gives_view, index.elts))
        is_written = isinstance(index, ast.Constant) and (index.value is None or index.value is ...)
        return is_written or isinstance(index, ast.Slice) or self.is_number(index)

    def kind(self, expression: ast.expr) -> str | None:
        """Returns which of the kinds above an expression is. None: another one, or it is not known."""
        match expression:
            case ast.Name() if (kind := self._names().kind(expression)) is not None:
                return kind
            case ast.Constant(value=value):
                return kind_of_value(value)
            case ast.UnaryOp(op=ast.Not()):
                return BOOL
            case ast.UnaryOp(op=operator, operand=operand):
                kind = self.kind(operand)
                return {BOOL: INT, MASK: MASK if isinstance(operator, ast.Invert) else TENSOR}.get(kind or "", kind)
            case ast.BinOp(left=left, op=operator, right=right):
                return result(operator, right, self.kind(left), self.kind(right))
            case ast.BoolOp(values=values):
                return BOOL if all(map(self.is_bool, values)) else None
            case ast.Compare(left=left, comparators=others):
                return self._kind_of_comparison(expression.ops, [left, *others])
            case ast.IfExp(body=body, orelse=orelse):
                return either(self.kind(body), self.kind(orelse))
            case ast.Call():
                return self._kind_of_call(expression)
            case ast.Attribute(value=value, attr=name) if name in _SAME_DTYPE and self.is_tensor(value):
                return self.kind(value)
            case ast.Subscript(value=value, slice=index):
                if last_name(value) == "shape" and not isinstance(index, ast.Slice):
                    return INT
                if (kind := self.kind(value)) in (*TENSOR_KINDS, TENSORS):
                    return TENSOR if kind == TENSORS else kind
        kind = kind_of_value(self.code.value(expression))
        is_changed = isinstance(expression, ast.Attribute) and expression.attr in self._changed
        return TENSOR if is_changed and kind in TENSOR_KINDS else kind

    def _kind_of_comparison(self, operators: list[ast.cmpop], sides: list[ast.expr]) -> str | None:
        kinds = [self.kind(side) for side in sides]
        if all(isinstance(operator, _TESTS) for operator in operators):
            return BOOL
        if any(kind in TENSOR_KINDS for kind in kinds):
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
        if parts := self.code.modules(call.func):
            kinds = {kind_of_part(part, self.kind(given[0]) if given else None) for part in parts}
            if len(kinds) == 1 and None not in kinds:
                return kinds.pop()
        called = self.code.called(call.func)
        declared = "" if called is None else called[0].declared
        if called and declared != "no tensor" and (kind := self.of(called[0]).returned()) is not None:
            return kind
        if is_of_torch(found):
            return self._kind_of_torchs(call, name, [])
        if isinstance(found, types.FunctionType):
            return kind_of_type(found.__annotations__.get("return"))
        if declared == "no tensor" or not isinstance(call.func, ast.Attribute) or found is not None:
            return None
        if name in _NO_TENSORS:
            is_list = name in ("size", "stride") and not given
            return NUMBER if name == "item" else INT if name in _SIZES and not is_list else None
        is_method = self.is_tensor(call.func.value) or not self._may_be_module(call.func.value)
        return self._kind_of_torchs(call, name, [call.func.value]) if is_method else None

    def returned(self) -> str | None:
        """Returns the kind of tensor that the function gives. None: it is none, or not known."""
        self._names()
        if not self._returned:
            self._returned = [self._declared_tensor()]  # if it calls itself
            nodes = self.code.source.nodes
            values = [one.value for one in nodes if isinstance(one, ast.Return) and one.value is not None]
            kinds = [self.kind(value) for value in values]
            if kinds and all(kind in TENSOR_KINDS for kind in kinds):
                self._returned = [functools.reduce(either, kinds)]
        return self._returned[0]

    def _declared_tensor(self) -> str | None:
        return TENSOR if self.code.declared == "a tensor" else None

    def _has_parts(self, items: ast.expr) -> bool:
        """Says whether a loop over parts of a module has a round, as far as is known."""
        names = {getattr(one, "id", "") for one in ast.walk(items)}
        is_whole = "zip" not in names and not any(isinstance(one, ast.Slice) for one in ast.walk(items))
        holders = self.code.modules(items) if is_whole else []
        return bool(holders) and all(isinstance(one, torch.nn.ModuleList) and len(one) > 0 for one in holders)

    def _may_be_module(self, expression: ast.expr) -> bool:
        """Says whether an expression may be a module of which nothing is known, as a stub is."""
        while isinstance(expression, (ast.Attribute, ast.Subscript)):
            expression = expression.value
        return isinstance(expression, ast.Name) and expression.id in self.code.local

    def _kind_of_torchs(self, call: ast.Call, name: str, receiver: list[ast.expr]) -> str | None:
        """Returns the kind of what a function of torch, or a method of a tensor, gives. `receiver`: that tensor."""
        words = {word.arg or "": word.value for word in call.keywords}
        given = [*call.args[:1], *receiver, *call.args[1:]] if name == "where" else [*receiver, *call.args]
        first = [words[word] for word in ("input", "self", "condition") if word in words]
        kinds = [self.kind(one) for whole in (*first, *given, *words.values()) for one in _items(whole)]
        is_tensor = any(kind in TENSOR_KINDS for kind in kinds)
        if "dtype" in words:
            return self._kind_of_dtype(words["dtype"]) if is_tensor or receiver or name not in _NO_TENSORS else None
        if "out" in words:
            return TENSOR
        if name in ("to", "type", "type_as") and receiver:
            return self._kind_of_cast(receiver[0], [*call.args, *words.values()])
        if name in ("view", "new_tensor") and any(isinstance(self.code.value(one), torch.dtype) for one in call.args):
            return TENSOR
        if name in ("full", "tensor", "as_tensor", "arange") and not receiver:
            made = {INT: INTEGERS, BOOL: MASK, FLOAT: FLOATS}
            values = kinds[1:2] if name == "full" else kinds
            one_kind = values[0] if values and len(set(values)) == 1 else None
            return made.get(one_kind or "", one_kind if name == "as_tensor" and is_tensor else TENSOR)
        kind = kind_of_result(name, kinds)
        is_floats = "rounding_mode" not in words and name == "div" and is_tensor
        if is_floats or (kind is not None and not any(word.startswith("return_") for word in words)):
            return FLOATS if is_floats else kind
        return TENSOR if is_tensor or name in _FACTORIES else None

    def _kind_of_dtype(self, dtype: ast.expr) -> str:
        if isinstance(dtype, ast.Attribute) and dtype.attr == "dtype" and self.is_tensor(dtype.value):
            return self.kind(dtype.value) or TENSOR
        return kind_of_dtype(self.code.value(dtype))

    def _kind_of_cast(self, tensor: ast.expr, given: list[ast.expr]) -> str:
        """Returns the kind of `tensor.to(...)`."""
        for one in given:
            if self.is_tensor(one):
                return self.kind(one) or TENSOR
            if isinstance(self.code.value(one), torch.dtype) or last_name(one) == "dtype":
                return self._kind_of_dtype(one)
        is_known = all(isinstance(one, ast.Constant) or last_name(one) == "device" for one in given)
        return (self.kind(tensor) if is_known else None) or TENSOR

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
                return result(ast.Pow(), power, kinds[0], kinds[1])
            case ("round", [_]) if kinds[0] in (BOOL, *NUMBERS):
                return WRONG
            case ("abs", [_]):
                return kinds[0]
            case ("max" | "min", [_, _]):
                return joined(kinds[0], kinds[1])
        return None


def is_of_torch(function: object) -> bool:
    """Says whether a function is known to be one of torch's that gives what a tensor's method of its name does."""
    module = getattr(function, "__module__", None) or ""
    if isinstance(function, types.FunctionType):
        return module in ("torch.nn.functional", "torch.functional")
    is_builtin = isinstance(function, (types.BuiltinFunctionType, type(torch.ops.aten.view)))
    return is_builtin and module not in ("builtins", "math", "cmath")


def _items(expression: ast.expr) -> list[ast.expr]:
    """Lists the items of a list or tuple literal, or the expression itself."""
    return expression.elts if isinstance(expression, (ast.List, ast.Tuple)) else [expression]


def _declared(code: Code, annotation: ast.expr | None, *, is_argument: bool = False) -> str | None:
    """Returns the kind that an annotation means."""
    if annotation is None and is_argument:
        return TENSOR  # as TorchScript has it
    if torch.Tensor in code.item_types(annotation):
        return TENSORS
    kinds = {kind_of_type(one) for one in code.alternatives(annotation) if one is not None}
    if TENSOR in kinds:
        return TENSOR
    if kinds == {INT, FLOAT}:
        return NUMBER
    return kinds.pop() if len(kinds) == 1 else None
