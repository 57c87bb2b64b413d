"""Refuses code that would end this process while TorchScript compiles it.

Note [Lists as Any]
    torch's compiler reads through a null pointer when a list literal stands where Any is expected: `return [1, 2]` in a
    method that returns Any, or `items: Any = [1, 2]` (pytorch issue 147055). The process ends, and all modules with it.
"""

from __future__ import annotations

import ast
import typing
from typing import Final

from ...errors import CreationError
from .scripted_code import Code
from .source import is_taken, last_name, unquoted

_LITERALS: Final = {
    ast.List: "a list literal",
    ast.ListComp: "a list comprehension",
    ast.DictComp: "a dict comprehension",
}


def check_lists(code: Code) -> None:
    """Raises CreationError for a literal that stands where Any is expected, with the line, and what to write."""
    for node in code.source.nodes:
        kind, value = None, None
        if isinstance(node, ast.Return):
            kind, value = code.source.returns, node.value
        elif isinstance(node, ast.AnnAssign):
            kind, value = node.annotation, node.value
        elif isinstance(node, ast.Call) and len(node.args) == 2 and last_name(node.func) == "annotate":
            kind, value = unquoted(node.args[0]), node.args[1]
        what = _literal(value)
        if value is not None and what is not None and _is_any(code, kind):
            items = "items: Dict[str, int] = {...}" if "dict" in what else "items: List[int] = [...]"
            raise CreationError(
                f"{code.place(value)}: {what} where the type is Any, at which torch's compiler ends the process "
                f"(pytorch issue 147055); give it its own type first, as in `{items}`, and go on with `items`"
            )


def _is_any(code: Code, annotation: ast.expr | None) -> bool:
    """Says whether an annotation means Any, or has it among its alternatives. torch takes a bare `list` like Any."""
    return any(one is typing.Any or one is list for one in code.alternatives(annotation))


def _literal(value: ast.expr | None) -> str | None:
    """Words a literal that an expression may be, if it would pass the expected type on to it."""
    if isinstance(value, ast.IfExp):
        taken = is_taken(value.test)
        then = None if taken is False else _literal(value.body)
        return then or (None if taken else _literal(value.orelse))
    return _LITERALS.get(type(value))
