"""Writes conditions on sizes as expressions: those that torch.export states in Python, and its symbolic sizes."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Final

from ...errors import CreationError
from ..lower import ir

Find = Callable[[str], "ir.Expression | None"]
"""Returns the expression for a part of a condition, given as text, if it is the size or the value of an argument."""

_SIGNS: Final[dict[type, str]] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.And: "and",
    ast.Or: "or",
}
_FUNCTIONS: Final = {
    **{name: name for name in ("max", "min", "int", "float", "abs", "math.floor", "math.ceil", "math.sqrt")},
    "Max": "max",
    "Min": "min",
}
_REMAINDERS: Final = ("Mod", "PythonMod")


def condition(text: str, find: Find, where: str) -> ir.Expression:
    """Reads a condition, or a size, that is written in Python.

    Raises:
        CreationError: it has something that generated code could not check.
    """

    def read(node: ast.expr) -> ir.Expression:
        found = find(ast.unparse(node))
        if found is not None:
            return found
        match node:
            case ast.Constant(bool() | int() | float() as value):
                return ir.Literal(value)
            case ast.BinOp(base, ast.Pow(), ast.Constant(int(exponent))) if 1 <= exponent <= 16:
                power = read(base)
                for _ in range(exponent - 1):
                    power = ir.Operation("*", power, read(base))
                return power
            case ast.BinOp(left, sign, right) if type(sign) in _SIGNS:
                return ir.Operation(_SIGNS[type(sign)], read(left), read(right))
            case ast.BoolOp(sign, [first, *others]):
                joined = read(first)
                for one in others:
                    joined = ir.Operation(_SIGNS[type(sign)], joined, read(one))
                return joined
            case ast.Compare(left, signs, rights) if all(type(sign) in _SIGNS for sign in signs):
                pairs = zip([left, *rights], signs, rights, strict=False)
                tests = [ir.Operation(_SIGNS[type(sign)], read(one), read(other)) for one, sign, other in pairs]
                joined = tests[0]
                for test in tests[1:]:
                    joined = ir.Operation("and", joined, test)
                return joined
            case ast.UnaryOp(ast.Not(), value):
                return ir.Operation("not", None, read(value))
            case ast.UnaryOp(ast.USub(), value):
                return ir.Operation("-", None, read(value))
            case ast.Call(function, arguments, []) if ast.unparse(function) in _FUNCTIONS:
                return ir.Call(ir.Name(_FUNCTIONS[ast.unparse(function)]), tuple(map(read, arguments)))
            case ast.Call(ast.Name(name), [left, right], []) if name in _REMAINDERS:
                return ir.Operation("%", read(left), read(right))
        raise CreationError(
            f"{where}: torch.export assumes {text}, which cannot be checked ({ast.unparse(node)}); state the sizes in "
            "dynamic_shapes"
        )

    return read(ast.parse(text.strip(), mode="eval").body)
