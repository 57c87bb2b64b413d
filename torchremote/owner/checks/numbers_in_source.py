"""Tells the integers and floats of a function apart, and what is an int in Python and a float in TorchScript."""

from __future__ import annotations

import ast
import types
from typing import Final

from .scripted_code import Code
from .source import last_name

INT: Final = "int"
FLOAT: Final = "float"
NUMBER: Final = "number"  # an int or a float
WRONG: Final = "wrong"  # an int in Python, a float in TorchScript

_SIZES: Final = frozenset("dim ndimension numel size storage_offset stride".split())
_LARGEST: Final = 200  # an exponent that is still calculated


class NumbersOf:
    """Knows the kinds of a function's expressions, as far as its source says."""

    def __init__(self, code: Code) -> None:
        self.code = code
        self._names: dict[str, str] = {}
        for argument in code.source.arguments:
            self._learn(ast.Name(argument.arg), self._declared(argument.annotation))
        given = [(target, value, loops) for target, value, loops in code.source.given]
        for node in code.source.nodes:
            if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
                before = ast.Name(node.target.id, ast.Load())
                given.append((node.target, ast.BinOp(before, node.op, node.value), False))
            elif isinstance(node, ast.AnnAssign):
                self._learn(node.target, self._declared(node.annotation))
        given.sort(key=lambda one: one[0].lineno)
        for target, value, loops in given * 2:  # a loop may use what is assigned below it
            self._assign(target, value, loops)

    def _assign(self, target: ast.expr, value: ast.expr, loops: bool) -> None:
        if not loops:
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
                for one, other in zip(target.elts, value.elts, strict=True):
                    self._assign(one, other, False)
            else:
                self._learn(target, self.kind(value))
        elif isinstance(value, ast.Call):
            if last_name(value.func) == "range":
                self._learn(target, INT)
            elif last_name(value.func) == "enumerate" and isinstance(target, ast.Tuple):
                self._learn(target.elts[0], INT)

    def _learn(self, target: ast.expr, kind: str | None) -> None:
        if isinstance(target, ast.Name) and kind is not None:
            self._names[target.id] = kind

    def _declared(self, annotation: ast.expr | None) -> str | None:
        declared = self.code.alternatives(annotation)
        if len(declared) == 1:
            return _kind_of_type(declared[0])
        return None

    def kind(self, expression: ast.expr) -> str | None:
        """Returns which of the kinds above an expression is. None: it is no number, or not known to be one."""
        match expression:
            case ast.Name(name) if name in self._names:
                return self._names[name]
            case ast.Constant(value=value):
                return _kind_of(value)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() | ast.Invert(), operand=operand):
                return self.kind(operand)
            case ast.BinOp(left=left, op=operator, right=right):
                return _result(operator, right, self.kind(left), self.kind(right))
            case ast.IfExp(body=body, orelse=orelse):
                return _joined(self.kind(body), self.kind(orelse))
            case ast.Call():
                return self._kind_of_call(expression)
            case ast.Subscript(value=value) if last_name(value) == "shape" and not isinstance(
                expression.slice, ast.Slice
            ):
                return INT
        return _kind_of(self.code.value(expression))

    def _kind_of_call(self, call: ast.Call) -> str | None:
        name, given = last_name(call.func), call.args
        if isinstance(call.func, ast.Attribute):
            if name in _SIZES and (given or name not in ("size", "stride")):
                return INT
            if name == "item":
                return NUMBER
        else:
            kinds = [self.kind(one) for one in given]
            match name, given:
                case ("int" | "len" | "ord", _):
                    return INT
                case ("float", _):
                    return FLOAT
                case ("pow", [_, power]):
                    return _result(ast.Pow(), power, kinds[0], kinds[1])
                case ("round", [_]):
                    return None if kinds[0] is None else WRONG
                case ("abs", [_]):
                    return kinds[0]
                case ("max" | "min", [_, _]):
                    return _joined(kinds[0], kinds[1])
        found = self.code.value(call.func)
        if getattr(found, "__module__", None) == "math":
            return INT if name in ("ceil", "factorial", "floor", "gcd") else FLOAT
        if isinstance(found, types.FunctionType):
            return _kind_of_type(found.__annotations__.get("return"))
        return None


def _kind_of_type(declared: object) -> str | None:
    if declared in (int, bool, "int", "bool"):
        return INT
    return FLOAT if declared in (float, "float") else None


def _kind_of(value: object) -> str | None:
    if isinstance(value, int):
        return INT
    return FLOAT if isinstance(value, float) else None


def _joined(one: str | None, other: str | None) -> str | None:
    """Returns the kind of an arithmetic result, or of one of two."""
    if one is None or other is None:
        return None
    return next((kind for kind in (FLOAT, WRONG, NUMBER) if kind in (one, other)), INT)


def _result(operator: ast.operator, right: ast.expr, one: str | None, other: str | None) -> str | None:
    joined = _joined(one, other)
    if isinstance(operator, ast.Div):
        return joined and FLOAT
    if isinstance(operator, ast.Pow) and joined in (INT, WRONG):
        is_negative = isinstance(right, ast.UnaryOp) and isinstance(right.op, ast.USub)
        return FLOAT if is_negative else WRONG
    return joined


def constant(expression: ast.expr) -> int | None:
    """Returns the integer that an expression of literals is. None: it is none, or a very large one."""
    match expression:
        case ast.Constant(value=int(value)):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            positive = constant(operand)
            return None if positive is None else -positive
        case ast.BinOp(left=left, op=operator, right=right):
            one, other = constant(left), constant(right)
            if one is None or other is None:
                return None
            match operator:
                case ast.Pow() if 0 <= other <= _LARGEST and abs(one) <= _LARGEST:
                    return int(one**other)
                case ast.Add():
                    return one + other
                case ast.Sub():
                    return one - other
                case ast.Mult():
                    return one * other
    return None


def cause_of(wrong: ast.expr) -> ast.expr:
    """Returns the power, or the call of `round`, that makes an expression one of the wrong kind."""
    for one in ast.walk(wrong):
        if isinstance(one, ast.BinOp) and isinstance(one.op, ast.Pow):
            return one
        if isinstance(one, ast.Call) and last_name(one.func) in ("pow", "round"):
            return one
    return wrong
