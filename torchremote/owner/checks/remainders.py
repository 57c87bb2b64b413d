"""Refuses `a %= b`, which gives another remainder in TorchScript than in Python.

Note [Remainders]
    TorchScript writes `a %= b` as fmod: the remainder has the sign of `a`, not that of `b`, and is a float for two
    ints. So it is for names, attributes, items and slices, of numbers and of tensors. `a % b` is right, and so is
    `remainder_`, which changes a tensor in place. TorchScript compiles neither `//=` nor `@=`.
"""

from __future__ import annotations

import ast

from .kinds import Kinds


def check_remainders(kinds: Kinds) -> None:
    """Raises CreationError for such an assignment, with the line, and what to write."""
    code = kinds.code
    for node in code.source.nodes:
        if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Mod):
            raise code.refusal(
                node,
                "gives a remainder with the sign of the dividend in TorchScript, and a float for two ints; write "
                f"{_written(kinds, node)}",
            )


def _written(kinds: Kinds, node: ast.AugAssign) -> str:
    """Words what to write for such an assignment."""
    target, value = ast.unparse(node.target), ast.unparse(node.value)
    assigned = f"`{target} = {ast.unparse(ast.BinOp(node.target, ast.Mod(), node.value))}`"
    if isinstance(node.target, ast.Subscript) or kinds.is_number(node.target):
        return assigned  # of a slice, it changes the tensor, too
    in_place = f"`{target}.remainder_({value})`"
    return (
        in_place if kinds.is_tensor(node.target) else f"{assigned}, or {in_place} for a tensor that is changed in place"
    )
