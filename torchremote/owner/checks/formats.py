"""Refuses a format that TorchScript does not know: it would leave it as it is, or raise in each call.

Note [Formats]
    `"{:.2f}".format(x)` is `{:.2f}` in TorchScript, without a word. So it is with numbers, names and conversions in
    braces. `{{` and `}}` stay two. F-strings with a format do not compile. One with `{{}}` takes that for a value.

    `"%.2f" % x` compiles, and raises in each call, and so does `"%d" % flag` of a bool or a tensor. All that raises is
    refused, too, but not in what is raised, or asserted.
"""

from __future__ import annotations

import ast
import re
from typing import Final, TypeGuard

from .kinds import Kinds
from .scripted_code import Code

_KNOWN: Final = re.compile("%[%cdeEfFis]")
_SHOWN: Final = "%c, %d, %e, %f, %s"
_SPECIFIER: Final = re.compile("%(.)")
_OF_NUMBERS: Final = frozenset("deEfFi")
_DIGITS: Final = "for a number of digits, return the number, and format it where you call"


def check_formats(kinds: Kinds) -> None:
    """Raises CreationError for such a format, with the line, and what to write."""
    code = kinds.code
    for node in code.source.nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
            text = next((one for one in _texts(code, node.func.value) if _is_wrong(one)), None)
            if text is not None:
                raise code.refusal(
                    node,
                    f"has a format, {text!r}, with more than plain {{}}, which TorchScript would leave as it is; write "
                    f"{{}} for each value, in their order, also for a brace, or % as in '%f' % x; {_DIGITS}",
                )
    may_raise = [one for one in code.source.nodes if _is_percent(one) or isinstance(one, ast.JoinedStr)]
    if not may_raise:
        return
    errors = [one for one in code.source.nodes if isinstance(one, (ast.Raise, ast.Assert))]
    in_errors = {id(inner) for one in errors for inner in ast.walk(one)}  # of which a call raises one in any case
    for node in may_raise:
        reason = _braces(node) if isinstance(node, ast.JoinedStr) else _percents(kinds, node)
        if reason and id(node) not in in_errors:
            raise code.refusal(node, reason)


def _is_percent(node: ast.AST) -> TypeGuard[ast.BinOp]:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod)


def _braces(text: ast.JoinedStr) -> str:
    """Words what is wrong with an f-string. "": nothing."""
    if any(isinstance(part, ast.Constant) and "{}" in str(part.value) for part in text.values):
        return (
            "has `{{}}`, which TorchScript takes for the place of a value, and raises; give the braces a name, "
            'as in `braces = "{}"`, and write `{braces}` for `{{}}`'
        )
    return ""


def _percents(kinds: Kinds, node: ast.BinOp) -> str:
    """Words what is wrong with a format of percents. "": nothing."""
    texts = _texts(kinds.code, node.left)
    text = next((one for one in texts if "%" in _KNOWN.sub("", one)), None)
    if text is not None:
        return (
            f"has a format, {text!r}, which would raise in TorchScript; it knows {_SHOWN} and %%, without width, "
            f"digits or names; {_DIGITS}"
        )
    specifiers = [one for one in _SPECIFIER.findall(texts[0]) if one != "%"] if len(texts) == 1 else []
    values = node.right.elts if isinstance(node.right, ast.Tuple) else [node.right]
    for specifier, value in zip(specifiers, values, strict=False):
        if specifier in _OF_NUMBERS and (kinds.is_bool(value) or kinds.is_tensor(value)):
            what = "a bool" if kinds.is_bool(value) else "a tensor"
            number = "int" if specifier in "di" else "float"
            return (
                f"formats {what} as a number, %{specifier}, which would raise in TorchScript; write "
                f"`{number}({ast.unparse(value)})`"
            )
    return ""


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
