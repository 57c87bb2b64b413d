"""Refuses a tensor that is made of a number of unknown kind, which TorchScript takes for a float.

Note [Tensors of items]
    `torch.tensor(x.sum().item())` is float32 in TorchScript, also for integers, which lose digits, and for a bool it
    fails. So does a list of such items; a tensor that is made of a tensor is float32, too. `int(...)` around it says
    what it is. Functions other than `torch.tensor` and `torch.as_tensor` are right.
"""

from __future__ import annotations

import ast
from typing import Final

import torch

from ...errors import CreationError
from .scripted_code import Code
from .source import last_name

_MAKE: Final = ("tensor", "as_tensor")
_SAY_KIND: Final = ("int", "float", "bool", "len", "str")


def check_items(code: Code) -> None:
    """Raises CreationError for such a tensor, with the line, and what to write."""
    made = [node for node in code.source.nodes if isinstance(node, ast.Call) and _makes_tensor(code, node)]
    if not made:
        return
    names = code.names(lambda annotation: False, _has_item)
    tensors = code.names(lambda annotation: torch.Tensor in code.alternatives(annotation), lambda value, known: False)
    for node in made:
        given = node.args[:1] or [one.value for one in node.keywords if one.arg == "data"]
        items = given[0].elts if given and isinstance(given[0], (ast.List, ast.Tuple)) else given
        for item in items:
            if _has_item(item, names) or _is_tensor(item, tensors):
                shown = ast.unparse(item)
                raise CreationError(
                    f"{code.place(node)}: `{ast.unparse(node)}` makes a tensor of `{shown}`, whose kind TorchScript "
                    "does not know: it would take integers for float32, and fails for bools; write "
                    f"`int({shown})`, or `float` or `bool` for `int`; or `.clone()` of the tensor itself"
                )


def _makes_tensor(code: Code, call: ast.Call) -> bool:
    return last_name(call.func) in _MAKE and code.value(call.func) in (torch.tensor, torch.as_tensor)


def _has_item(expression: ast.expr, names: set[str]) -> bool:
    """Says whether an expression has the type of `item()`. `names`: the local names that have it."""
    match expression:
        case ast.Name(name):
            return name in names
        case ast.Call(func=ast.Attribute(attr="item")):
            return True
        case ast.Call(func=ast.Name(name), args=arguments) if name not in _SAY_KIND:
            return any(_has_item(one, names) for one in arguments)
        case ast.BinOp(left=left, right=right):
            return _has_item(left, names) or _has_item(right, names)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            return _has_item(operand, names)
        case ast.IfExp(body=body, orelse=orelse):
            return _has_item(body, names) or _has_item(orelse, names)
    return False


def _is_tensor(expression: ast.expr, names: set[str]) -> bool:
    """Says whether an expression is a tensor, or one at an index, as far as arguments are declared."""
    if isinstance(expression, ast.Subscript):
        return _is_tensor(expression.value, names)
    return isinstance(expression, ast.Name) and expression.id in names
