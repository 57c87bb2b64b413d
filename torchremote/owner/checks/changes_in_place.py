"""Refuses an assignment that changes a module's tensor in place in Python, and makes another one in TorchScript.

Note [Changes in place]
    `done |= new` changes the tensor in Python, as do `&=`, `^=` and `**=`. TorchScript writes `done = done | new`. So
    after `done = self.done`, the module's own tensor stays as it was. The other operators, as `+=`, are in place in
    both, and `self.done |= new` assigns the attribute.
"""

from __future__ import annotations

import ast
from typing import Final

import torch

from ...errors import CreationError
from .scripted_code import Code

_METHODS: Final = {
    ast.BitOr: "bitwise_or_",
    ast.BitAnd: "bitwise_and_",
    ast.BitXor: "bitwise_xor_",
    ast.Pow: "pow_",
}


def check_changes(code: Code) -> None:
    """Raises CreationError for such an assignment to a tensor that a module holds, with the line, and what to write."""
    for node in code.source.nodes:
        if isinstance(node, ast.AugAssign) and type(node.op) in _METHODS and isinstance(node.target, ast.Name):
            name = node.target.id
            held = [
                value for target, value, _ in code.source.given if isinstance(target, ast.Name) and target.id == name
            ]
            if any(isinstance(code.value(value), torch.Tensor) for value in held):
                written = f"{name}.{_METHODS[type(node.op)]}({ast.unparse(node.value)})"
                raise CreationError(
                    f"{code.place(node)}: `{ast.unparse(node)}` does not change the tensor in place in TorchScript, so "
                    f"the module's own one would stay as it was; write `{written}`"
                )
