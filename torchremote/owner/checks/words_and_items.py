"""Refuses what strings and dicts do in another way in TorchScript than in Python.

Note [Words and items]
    `text.split(None, n)` splits at every white space, whatever `n` is, and `text.rsplit()` at single spaces, so it
    gives empty words. `mapping.popitem()` takes the first item, and in Python the last one. The graph shows two of
    these. In it, `text.rsplit()` is `text.rsplit(" ")`, which is right, so the source is searched for that. It is also
    searched for `sorted(text)` and `text.join(text)`, of which TorchScript makes a list that has the whole text alone.
    Lists in lists are not sorted: each call raises.
"""

from __future__ import annotations

import ast
import types
from functools import partial
from typing import Any, Final

from ... import _torch
from ...errors import CreationError
from .scripted_code import Code
from .source import last_name

_MAY_BE_NONE: Final = ("NoneType", "OptionalType")
_OF_LETTERS: Final = ("join", "sorted")
_GIVE_TEXTS: Final = frozenset(
    "capitalize center expandtabs format join ljust lower lstrip replace rjust rstrip strip swapcase title upper "
    "zfill".split()
)
"""Methods of texts that give a text."""


def check_words(where: str, graph: Any) -> None:
    """Raises CreationError if a graph splits at some white spaces, takes the last item of a dict, or sorts lists.

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
    for node in (*graph.findAllNodes("aten::sorted"), *graph.findAllNodes("aten::sort")):
        kind = node.inputsAt(0).type()
        if kind.kind() == "ListType" and _has_lists(kind.getElementType()):
            place, code = _torch.place_of(node)
            raise CreationError(
                f"{where} ({place}): `{code}(...)` of lists in a list would raise in TorchScript; write tuples for "
                "them, as in `sorted([(one[0], one[1]) for one in lists])`"
            )


def _has_lists(kind: Any) -> bool:
    if kind.kind() == "TupleType":
        return any(map(_has_lists, kind.elements()))
    return kind.kind() in ("DictType", "ListType")


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


def check_letters(code: Code) -> None:
    """Raises CreationError where a text stands for the list of its letters, with the line, and what to write."""
    calls = [node for node in code.source.nodes if isinstance(node, ast.Call) and last_name(node.func) in _OF_LETTERS]
    if not calls:
        return
    names = code.names(lambda annotation: code.alternatives(annotation) == [str], partial(_is_text, code))
    for node in calls:
        is_method = isinstance(node.func, ast.Attribute) and _is_text(code, node.func.value, names)
        is_function = isinstance(node.func, ast.Name) and code.value(node.func) is sorted
        if (is_method or is_function) and len(node.args) == 1 and _is_text(code, node.args[0], names):
            raise code.refusal(
                node,
                "takes the whole text for one item in TorchScript; write "
                f"`{ast.unparse(node.func)}(list({ast.unparse(node.args[0])}))`",
            )


def _is_text(code: Code, expression: ast.expr, names: set[str]) -> bool:
    """Says whether an expression is known to be a text. `names`: the local names of texts."""
    match expression:
        case ast.Name(name) if name in names:
            return True
        case ast.Constant(value=value):
            return isinstance(value, str)
        case ast.JoinedStr() | ast.Call(func=ast.Name("str")):
            return True
        case ast.BinOp(left=left, op=ast.Add() | ast.Mod()):
            return _is_text(code, left, names)
        case ast.Subscript(value=value):
            return _is_text(code, value, names)
        case ast.Call(func=ast.Attribute(value=value, attr=name)) if name in _GIVE_TEXTS:
            return _is_text(code, value, names)
        case ast.Call(func=function):
            found = code.value(function)
            return isinstance(found, types.FunctionType) and found.__annotations__.get("return") in (str, "str")
    return isinstance(code.value(expression), str)
