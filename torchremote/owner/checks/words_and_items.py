"""Refuses methods of strings and dicts that do something else in TorchScript than in Python.

Note [Words and items]
    `text.split(None, n)` splits at every white space, whatever `n` is, and `text.rsplit()` at single spaces, so it
    gives empty words. `mapping.popitem()` takes the first item, and in Python the last one. The graph shows two of
    these. In it, `text.rsplit()` is `text.rsplit(" ")`, which is right, so the source is searched for that.
"""

from __future__ import annotations

import ast
from typing import Any, Final

from ... import _torch
from ...errors import CreationError
from .scripted_code import Code

_MAY_BE_NONE: Final = ("NoneType", "OptionalType")


def check_words(where: str, graph: Any) -> None:
    """Raises CreationError if a graph splits at up to so many white spaces, or takes the last item of a dict.

    Args:
        where: names the method or function that has the graph.
    """
    for node in graph.findAllNodes("aten::split"):
        kinds = [value.type().kind() for value in node.inputs()]
        if kinds[0] == "StringType" and kinds[1] in _MAY_BE_NONE:
            limit = node.inputsAt(2).toIValue()  # None: it is no constant
            if limit is None or limit >= 0:
                place, code = _torch.place_of(node)
                raise CreationError(
                    f"{where} ({place}): `{code}(...)` with None and a limit disregards the limit in TorchScript; for "
                    '`text.split(None, n)` write `" ".join(text.split()).split(" ", n)`, which leaves single spaces in '
                    'the rest, or `text.split(" ", n)` if single spaces separate the words'
                )
    for node in graph.findAllNodes("aten::popitem"):
        place, code = _torch.place_of(node)
        raise CreationError(
            f"{where} ({place}): `{code}()` takes the first item of a dict in TorchScript, and in Python the last one; "
            "for `mapping.popitem()` write `key = list(mapping.keys())[-1]` and `mapping.pop(key)`"
        )


def check_rsplit(code: Code) -> None:
    """Raises CreationError for `text.rsplit()`, with the line, and what to write."""
    for node in code.source.nodes:
        match node:
            case ast.Call(func=ast.Attribute(value=text, attr="rsplit"), args=[], keywords=[]):
                if code.value(node.func) is None:
                    raise code.refusal(
                        node,
                        "splits at single spaces in TorchScript, and so gives empty words; write "
                        f"`{ast.unparse(text)}.split()`, which is the same in Python",
                    )
