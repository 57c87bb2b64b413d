"""Refuses a format that TorchScript does not know: it would leave it as it is, or raise in each call.

Note [Formats]
    `"{:.2f}".format(x)` is `{:.2f}` in TorchScript, without a word. So it is with numbers, names and conversions in
    braces. `{{` and `}}` stay two. F-strings with a format do not compile.

    `"%.2f" % x` compiles, and raises in each call. It is refused, too, but not in what is raised, or asserted.
"""

from __future__ import annotations

import ast
import re
from typing import Final

from .scripted_code import Code

_KNOWN: Final = re.compile("%[%cdeEfFis]")
_SHOWN: Final = "%c, %d, %e, %f, %s"
_DIGITS: Final = "for a number of digits, return the number, and format it where you call"


def check_formats(code: Code) -> None:
    """Raises CreationError for such a format, with the line, and what to write."""
    for node in code.source.nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
            text = next((one for one in _texts(code, node.func.value) if _is_wrong(one)), None)
            if text is not None:
                raise code.refusal(
                    node,
                    f"has a format, {text!r}, with more than plain {{}}, which TorchScript would leave as it is; write "
                    f"{{}} for each value, in their order, or % as in '%f' % x; {_DIGITS}",
                )
    percents = [one for one in code.source.nodes if isinstance(one, ast.BinOp) and isinstance(one.op, ast.Mod)]
    if not percents:
        return
    errors = [one for one in code.source.nodes if isinstance(one, (ast.Raise, ast.Assert))]
    in_errors = {id(inner) for one in errors for inner in ast.walk(one)}  # of which a call raises one in any case
    for node in percents:
        text = next((one for one in _texts(code, node.left) if "%" in _KNOWN.sub("", one)), None)
        if text is not None and id(node) not in in_errors:
            raise code.refusal(
                node,
                f"has a format, {text!r}, which would raise in TorchScript; it knows {_SHOWN} and %%, without width, "
                f"digits or names; {_DIGITS}",
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
