"""Refuses a tensor that is made of a number of unknown kind, which TorchScript takes for a float.

Note [Tensors of items]
    `torch.tensor(x.sum().item())` is float32 in TorchScript, also for integers, which lose digits, and for a bool it
    fails. So does a list of such items; `torch.tensor` of a tensor is float32, too. `int(...)` around it says what it
    is. `torch.as_tensor` of a tensor is that tensor, but for a `device=` that is a text: then TorchScript chooses the
    variant for a float. Functions other than these two are right.
"""

from __future__ import annotations

import ast
from typing import Final

import torch

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
    devices = code.names(
        lambda annotation: torch.device in code.alternatives(annotation),
        lambda value, known: _is_device(code, value, known),
    )
    for node in made:
        given = node.args[:1] or [one.value for one in node.keywords if one.arg == "data"]
        items = given[0].elts if given and isinstance(given[0], (ast.List, ast.Tuple)) else given
        device = next((one.value for one in node.keywords if one.arg == "device"), None)
        for item in items:
            shown = ast.unparse(item)
            if _has_item(item, names):
                remedy = f"`int({shown})`, or `float` or `bool` for `int`"
            elif not _is_tensor(item, tensors):
                continue
            elif last_name(node.func) == "tensor" or items is not given:
                remedy = f"`int({shown})`, or `float` or `bool` for `int`; or `.clone()` of the tensor itself"
            elif device is not None and not _is_device(code, device, devices):
                remedy = f"`device=torch.device({ast.unparse(device)})`"
            else:
                continue
            raise code.refusal(
                node,
                f"makes a tensor of `{shown}`, whose kind TorchScript does not know: it would take integers for "
                f"float32, and fails for bools; write {remedy}",
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


def _is_device(code: Code, expression: ast.expr, names: set[str]) -> bool:
    """Says whether an expression is a device, and no text. `names`: the local names that are devices."""
    if isinstance(expression, ast.Name) and expression.id in names:
        return True
    if isinstance(expression, ast.Call):
        return code.value(expression.func) is torch.device
    if isinstance(expression, ast.Attribute) and expression.attr == "device":
        root: ast.expr = expression.value
        is_tensor = isinstance(code.value(root), torch.Tensor)
        while isinstance(root, (ast.Attribute, ast.Subscript)):
            root = root.value
        is_of_module = isinstance(root, ast.Name) and root.id in code.local
        if is_tensor or not is_of_module:
            return True
    return isinstance(code.value(expression), torch.device)
