"""Refuses a dtype where TorchScript takes it for a size, without a word.

Note [Dtypes as sizes]
    In TorchScript a dtype is an integer, `torch.int32` is 3. So `x.view(torch.int32)` is `x.view(3)`, and
    `torch.ones(2, torch.float64)` has the size 2 x 7. Where a dtype is expected, also of another view, as in
    `torch.view_copy`, it is right.
"""

from __future__ import annotations

import ast
from typing import Final

import torch

from .kinds import may_be_torchs
from .scripted_code import Code
from .source import last_name

_FILLED: Final = frozenset("arange empty eye full full_like new_empty new_ones new_zeros ones rand randn zeros".split())
_GIVE_DTYPES: Final = frozenset(("get_default_dtype", "promote_types", "result_type"))


def check_dtypes(code: Code) -> None:
    """Raises CreationError for a dtype in the place of a size, with the line, and what to write."""

    def is_declared(annotation: ast.expr | None) -> bool:
        return torch.dtype in code.alternatives(annotation)

    def is_dtype(expression: ast.expr, names: set[str]) -> bool:
        match expression:
            case ast.Name(name) if name in names:
                return True
            case ast.IfExp():
                return is_dtype(expression.body, names) or is_dtype(expression.orelse, names)
            case ast.Call(function):
                return last_name(function) in _GIVE_DTYPES
        value = code.value(expression)
        is_of_tensor = isinstance(expression, ast.Attribute) and expression.attr == "dtype" and value is None
        return isinstance(value, torch.dtype) or is_of_tensor

    names: set[str] | None = None
    for node in code.source.nodes:
        if not isinstance(node, ast.Call) or not may_be_torchs(code.value(node.func)):
            continue
        views = last_name(node.func) == "view" and isinstance(node.func, ast.Attribute)
        if not views and last_name(node.func) not in _FILLED:
            continue
        names = code.names(is_declared, is_dtype) if names is None else names
        given = next((one for one in node.args if is_dtype(one, names)), None)
        if given is None and views:
            given = next((one.value for one in node.keywords if one.arg == "dtype"), None)
        if given is not None:
            written = f"dtype={ast.unparse(given)}"
            if views and isinstance(node.func, ast.Attribute):
                viewed = node.func.value if given in node.args[:1] or not node.args else node.args[0]
                written = f"torch.view_copy({ast.unparse(viewed)}, {ast.unparse(given)})"
            raise code.refusal(
                node,
                f"passes a dtype, which TorchScript takes for a size, so the result would be wrong; write `{written}`",
            )
