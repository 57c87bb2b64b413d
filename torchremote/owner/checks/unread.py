"""Finds what TorchScript's frontend fails to read with an error of its own, which names neither line nor reason."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from .scripted_code import Code


def unread_in(codes: Iterable[Code]) -> str:
    """Words what cannot be read in functions that were not scripted, with the line. "": nothing that is known."""
    for code in codes:
        for statement in code.source.body:
            for node in ast.walk(statement):
                if reason := _reason(node):
                    return f"{code.place(node)}: {reason}"
    return ""


def _reason(node: ast.AST) -> str:
    match node:
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return f"`+{ast.unparse(operand)}` is a unary plus, which TorchScript cannot read"
        case ast.While(test=test, orelse=[_, *_]):
            return f"the loop `while {ast.unparse(test)}` has an `else`, which TorchScript cannot read"
        case ast.Raise(exc=None):
            return "`raise` names no exception, which TorchScript cannot read"
        case ast.Dict(keys=keys, values=values) if None in keys:
            mapping = ast.unparse(values[keys.index(None)])
            return f"a dict takes in `**{mapping}`, which TorchScript cannot read"
        case ast.Call(func=ast.Name("hasattr"), args=[_, ast.Constant(value=str(name))]) if name.startswith("__"):
            return f"`{ast.unparse(node)}` asks for a name of Python's own, which TorchScript cannot read"
    return ""
