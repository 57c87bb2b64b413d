"""Refuses `is` where TorchScript answers it wrongly, without a word.

Note [Copies of members]
    TorchScript has no one object for a member of an enum, nor for a string. Each constant is a copy, and so is each
    argument that comes from elsewhere. `is` compares the copies: it is False, `is not` is True, and a module takes the
    wrong branch. `==` is right. `in` with members, `match`, and `==` of a member and something else do not compile.
    `is` with None, numbers, dtypes, lists and tensors is right.
"""

from __future__ import annotations

import ast
import enum
import itertools

from .scripted_code import Code

_MEMBER = "an enum's member"


def check_identity(code: Code) -> None:
    """Raises CreationError for an `is` with an enum's member or a string, with the line, and what to write."""
    members = code.names(
        lambda annotation: _is_enum(code, annotation), lambda value, names: _copied(code, value, names) == _MEMBER
    )
    for node in code.source.nodes:
        if not isinstance(node, ast.Compare):
            continue
        for operator, sides in zip(node.ops, itertools.pairwise([node.left, *node.comparators]), strict=True):
            if not isinstance(operator, (ast.Is, ast.IsNot)) or any(_is_none(side) for side in sides):
                continue
            copied = next(filter(None, (_copied(code, side, members) for side in sides)), None)
            if copied is not None:
                wrong, right = ("is", "==") if isinstance(operator, ast.Is) else ("is not", "!=")
                raise code.refusal(
                    node,
                    f"compares {copied} by identity; TorchScript has copies of it, so the answer would be wrong; write "
                    f"`{right}` for `{wrong}`, after `is not None` or `isinstance` where the type allows others",
                )


def _is_enum(code: Code, annotation: ast.expr | None) -> bool:
    """Says whether an annotation means an enum, or an Optional of one."""
    return any(isinstance(one, type) and issubclass(one, enum.Enum) for one in code.alternatives(annotation))


def _is_none(expression: ast.expr) -> bool:
    return isinstance(expression, ast.Constant) and expression.value is None


def _copied(code: Code, expression: ast.expr, members: set[str]) -> str | None:
    """Words what an expression is, if TorchScript copies it. `members`: the local names of enums' members."""
    if isinstance(expression, ast.Name) and expression.id in members:
        return _MEMBER
    value = expression.value if isinstance(expression, ast.Constant) else code.value(expression)
    if isinstance(value, enum.Enum):
        return _MEMBER
    return "a string" if isinstance(value, str) else None
