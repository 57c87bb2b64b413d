"""Writes conditions on sizes as expressions: those that torch.export states in Python, and its symbolic sizes."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Final

from ...errors import CreationError
from ..lower import ir

Find = Callable[[str], "ir.Expression | None"]
"""Returns the expression for a part of a condition, given as text, if it is the size or the value of an argument."""

# The names are torch.export's. Its conditions are Python, since torch 2.14 with functions of torch.
# In its sizes, the names are those of sympy.
_SIGNS: Final[dict[type, str]] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.And: "and",
    ast.Or: "or",
}
_FUNCTIONS: Final[dict[str, str]] = {
    **dict.fromkeys(("int", "math.trunc", "torch.sym_int", "TruncToInt"), "int"),
    **dict.fromkeys(("float", "torch.sym_float", "ToFloat"), "float"),
    **dict.fromkeys(("abs", "Abs"), "abs"),
    **dict.fromkeys(("math.floor", "floor", "FloorToInt"), "math.floor"),
    **dict.fromkeys(("math.ceil", "ceiling", "CeilToInt"), "math.ceil"),
    **dict.fromkeys(("math.sqrt", "torch._sym_sqrt", "OpaqueUnaryFn_sqrt"), "math.sqrt"),
}
_OF_SEVERAL: Final[dict[str, str]] = {
    **dict.fromkeys(("max", "Max", "torch.sym_max"), "max"),
    **dict.fromkeys(("min", "Min", "torch.sym_min"), "min"),
}
_OF_TWO: Final[dict[str, str]] = {
    **dict.fromkeys(("Mod", "PythonMod"), "%"),
    **dict.fromkeys(("FloorDiv", "CleanDiv"), "//"),
    **dict.fromkeys(("IntTrueDiv", "FloatTrueDiv"), "/"),
}
_BEYOND: Final = 2**63  # is no integer of TorchScript
_OF_INTEGERS: Final = {"%": "modulo", "//": "floor_quotient"}  # functions of runtime/exported.py
_DIVISIONS: Final[dict[type, str]] = {ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%"}


def _is_beyond_64_bits(limit: ast.expr) -> bool:
    """Says whether a limit is larger than all sizes, such as `9223372036854775808 + (-1)*size`."""
    match limit:
        case ast.Constant(int(value)) | ast.BinOp(ast.Constant(int(value)), ast.Add(), _):
            return value >= _BEYOND
    return False


def condition(text: str, find: Find, where: str, divisors: list[ir.Expression] | None = None) -> ir.Expression:
    """Reads a condition, or a size, that is written in Python.

    Args:
        divisors: collects those that a call could have as 0. The expression may run only if none is.

    Raises:
        CreationError: it has something that generated code could not check.
    """

    def divided(sign: str, left: ast.expr, right: ast.expr) -> ir.Expression:
        divisor = read(right)
        if isinstance(divisor, ir.Literal) and divisor.value:
            return ir.Operation(sign, read(left), divisor)
        if divisors is not None:
            divisors.append(divisor)
        if sign == "/":
            return ir.Operation(sign, read(left), divisor)
        return ir.call(_OF_INTEGERS[sign], read(left), divisor)

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
            case ast.BinOp(left, sign, right) if type(sign) in _DIVISIONS:
                return divided(_DIVISIONS[type(sign)], left, right)
            case ast.BoolOp(sign, [first, *others]):
                joined = read(first)
                for one in others:
                    joined = ir.Operation(_SIGNS[type(sign)], joined, read(one))
                return joined
            case ast.Compare(_, [ast.Lt() | ast.LtE()], [limit]) if _is_beyond_64_bits(limit):
                return ir.Literal(True)
            case ast.Compare(left, signs, rights) if all(type(sign) in _SIGNS for sign in signs):
                pairs = zip([left, *rights], signs, rights, strict=False)
                tests = [ir.Operation(_SIGNS[type(sign)], read(one), read(other)) for one, sign, other in pairs]
                joined = tests[0]
                for test in tests[1:]:
                    joined = ir.Operation("and", joined, test)
                return joined
            case ast.UnaryOp(ast.Not(), value):
                return ir.negated(read(value))
            case ast.UnaryOp(ast.USub(), value):
                return ir.Operation("-", None, read(value))
            case ast.IfExp(test, ast.Constant(1), ast.Constant(0)):  # torch writes a condition so, as a size
                return ir.call("int", read(test))
            case ast.Call(function, [argument], []) if ast.unparse(function) in _FUNCTIONS:
                return ir.call(_FUNCTIONS[ast.unparse(function)], read(argument))
            case ast.Call(function, [first, *others], []) if others and ast.unparse(function) in _OF_SEVERAL:
                chosen = read(first)
                for one in others:  # TorchScript's take two
                    chosen = ir.call(_OF_SEVERAL[ast.unparse(function)], chosen, read(one))
                return chosen
            case ast.Call(function, [left, right], []) if ast.unparse(function) in _OF_TWO:
                return divided(_OF_TWO[ast.unparse(function)], left, right)
            case ast.Call(ast.Name("ModularIndexing"), [value, divisor, modulus], []):
                return divided("%", ast.BinOp(value, ast.FloorDiv(), divisor), modulus)
        raise CreationError(
            f"{where}: torch.export assumes {text}, which cannot be checked ({ast.unparse(node)}); state the sizes in "
            "dynamic_shapes"
        )

    return read(ast.parse(text.strip(), mode="eval").body)
