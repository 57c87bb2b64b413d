"""Refuses a format of which TorchScript knows nothing but `{}`, and leaves the rest as it is.

Note [Formats]
    `"{:.2f}".format(x)` is `{:.2f}` in TorchScript, without a word. So it is with numbers, names and conversions in
    braces. `{{` and `}}` stay two. Formats with `%` raise where they are not supported, and f-strings with a format do
    not compile.
"""

from __future__ import annotations

import ast

from ...errors import CreationError
from .scripted_code import Code


def check_formats(code: Code) -> None:
    """Raises CreationError for such a format, with the line, and what to write."""
    for node in code.source.nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
            text = next((one for one in _texts(code, node.func.value) if _is_wrong(one)), None)
            if text is not None:
                raise CreationError(
                    f"{code.place(node)}: `{ast.unparse(node)}` has a format, {text!r}, with more than plain {{}}, "
                    "which TorchScript would leave as it is; write {} for each value, in their order, or % as in "
                    "'%.2f' % x"
                )


def _texts(code: Code, expression: ast.expr) -> list[str]:
    """Lists the texts that an expression is, or has parts of, as far as the source says."""
    found: list[str] = []
    for one in ast.walk(expression):
        value: object = one.value if isinstance(one, ast.Constant) else None
        if isinstance(one, ast.Attribute):
            value = code.value(one)
        elif isinstance(one, ast.Name):
            given = [text for target, text, _ in code.source.given if getattr(target, "id", "") == one.id]
            found += [text.value for text in given if isinstance(text, ast.Constant) and isinstance(text.value, str)]
            value = code.value(one)
        if isinstance(value, str):
            found.append(value)
    return found


def _is_wrong(text: str) -> bool:
    rest = text.replace("{}", "")
    return "{" in rest or "}" in rest
