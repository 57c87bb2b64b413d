"""Has floats, texts and lists of bools do as in Python, where TorchScript would give another value, or never end."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator
from typing import Any, Final

import torch

from .compile import compile_function
from .frontend import parsed, resolver
from .nodes import GUARDED, is_constant, number, write

_C: Any = torch._C  # its type stubs lack many names

# Note [Floats, texts and masks]
#     torch takes a float for equal to itself before it compares: `loss != loss` is False for nan, also where one
#     expression is written twice, or a function is given one value for both arguments. It does not look into `<=` and
#     `>=`, so these stand in the place of `==` of floats; beside a constant, `==` stays.
#
#     `//` of floats is the floor of the quotient in TorchScript, which was rounded: 10 for `1.0 // 0.1`, which is 9.
#     `%` of floats is rounded once more than in Python. So both are computed as Python does, from fmod.
#
#     `rsplit`, `count` and `replace` look for an empty text for ever, and `center` counts a negative width up to 2**64,
#     so the first raise, and a width is at least 0. `find`, `split` and all others come to an end.
#
#     `splitlines` splits between a carriage return and a line feed, splits letters with a byte 0x85, and has ends that
#     are kept as lines of their own. `zfill` fills before a sign. `startswith` raises for a start behind the end of the
#     text. Each is computed as in Python. Torch cannot read a carriage return that it writes into an archive, so it is
#     made of a number in a list, which torch does not compute beforehand.
#
#     A list that is an index, as in `x[[True, False]]`, becomes a tensor of int64, which picks rows 1 and 0. One of
#     bools becomes a mask instead. Its operator has no place in the source, unlike a `torch.tensor` of the user's.
_DIVISIONS: Final = {
    "aten::floordiv": ("quotient",),
    "aten::remainder": ("rest",),
    "aten::divmod": ("quotient", "rest"),
}
_FLOATS: Final = ("FloatType", "IntType")
_SEARCHES: Final = ("aten::rsplit", "aten::count", "aten::replace")
_WIDTHS: Final = ("aten::center", "aten::ljust", "aten::rjust")
_INT64: Final = 4  # as TorchScript numbers dtypes
_BOOL: Final = 11
_NO_PLACE: Final = re.compile(r'( *File "", line 0\n|$)')  # the first: it was loaded

_CHECKED: Final = """
def checked(divisor: float) -> float:
    if divisor == 0.0:
        raise ZeroDivisionError("division by 0")
    return divisor
"""
_REST: Final = """
def rest(dividend: float, divisor: float) -> float:
    found = math.fmod(dividend, divisor)
    if found == 0.0:
        found = math.copysign(0.0, divisor)
    elif (divisor < 0.0) != (found < 0.0):
        found = found + divisor
    return found
"""
_QUOTIENT: Final = """
def quotient(dividend: float, divisor: float) -> float:
    rest = math.fmod(dividend, divisor)
    whole = (dividend - rest) / divisor
    if rest != 0.0 and (divisor < 0.0) != (rest < 0.0):
        whole = whole - 1.0
    if whole == 0.0:
        return math.copysign(0.0, dividend / divisor)
    found = round(whole)  # `whole` is an integer, but for an error
    return found - 1.0 if found - whole >= 0.5 else found
"""
_NOT_EMPTY: Final = """
def not_empty(text: str) -> str:
    if text == "":
        raise ValueError("TorchScript never ends to look for an empty text: count, replace and rsplit take none")
    return text
"""
_LINES: Final = r"""
def lines(text: str, keeps_ends: bool) -> List[str]:
    ends = [11, 12, 13]
    back = chr(ends[2])
    flat = text.replace(back + "\n", "\n").replace(back, "\n")
    flat = flat.replace(chr(ends[0]), "\n").replace(chr(ends[1]), "\n")
    flat = flat.replace("\034", "\n").replace("\035", "\n").replace("\036", "\n")
    found = flat.replace("\302\205", "\n").replace("\342\200\250", "\n").replace("\342\200\251", "\n").split("\n")
    if found[-1] == "":
        found.pop()
    if keeps_ends:
        start = 0
        for i in range(len(found)):
            end_of_line = start + len(found[i])
            size = 1
            for end in [back + "\n", "\302\205", "\342\200\250", "\342\200\251"]:
                if text[end_of_line : end_of_line + len(end)] == end:
                    size = len(end)
            found[i] = text[start : end_of_line + size]
            start = end_of_line + size
    return found
"""
_FILLED: Final = """
def filled(text: str, width: int) -> str:
    sign = text[:1]
    if sign == "-" or sign == "+":
        return sign + text[1:].rjust(max(width, 1) - 1, "0")
    return text.rjust(max(width, 0), "0")
"""
_BEGINS: Final = """
def begins(text: str, part: str, start: int) -> bool:
    return start <= len(text) and text[start:].startswith(part)
"""
_TEXTS: Final = {
    "checked": _CHECKED,
    "rest": _REST,
    "quotient": _QUOTIENT,
    "not_empty": _NOT_EMPTY,
    "lines": _LINES,
    "filled": _FILLED,
    "begins": _BEGINS,
}


def guard_values(graph: Any) -> None:
    """Has a graph that was not run yet compare, divide, search and pick rows as Python does.

    A graph that has its guards stays as it is.
    """
    for kind in ("aten::eq", "aten::ne"):
        for node in graph.findAllNodes(kind):
            _compare(graph, node)
    for kind, functions in _DIVISIONS.items():
        for node in graph.findAllNodes(kind):
            _divide(graph, node, functions)
    for kind in ("aten::splitlines", "aten::zfill", "aten::startswith"):
        for node in graph.findAllNodes(kind):
            _compute(graph, node)
    for kind in (*_SEARCHES, *_WIDTHS):
        for node in graph.findAllNodes(kind):
            _search(graph, node)
    for node in graph.findAllNodes("aten::tensor"):
        _pick(graph, node)
    graph.setInsertPoint(graph.return_node())


def _compare(graph: Any, node: Any) -> None:
    one, other = node.inputs()
    kinds = {value.type().kind() for value in (one, other)}
    if kinds != {"FloatType"} or is_constant(one) != is_constant(other):
        return
    boolean = _C.BoolType.get()
    if one.unique() == other.unique():
        found, is_opposite = write(graph, node, "aten::isnan", one, kind=boolean), node.kind() == "aten::eq"
    else:
        least, most = (write(graph, node, f"aten::{name}", one, other, kind=boolean) for name in ("ge", "le"))
        found, is_opposite = write(graph, node, "aten::__and__", least, most, kind=boolean), node.kind() == "aten::ne"
    _replace(node, [write(graph, node, "aten::__not__", found, kind=boolean) if is_opposite else found])


def _divide(graph: Any, node: Any, functions: tuple[str, ...]) -> None:
    kinds = [value.type().kind() for value in node.inputs()]
    if "FloatType" not in kinds or any(kind not in _FLOATS for kind in kinds):
        return
    of_floats = [
        write(graph, node, "aten::Float", value, kind=_C.FloatType.get()) if kind == "IntType" else value
        for value, kind in zip(node.inputs(), kinds, strict=True)
    ]
    if not is_constant(of_floats[1]) or of_floats[1].toIValue() == 0:
        of_floats[1] = _call(graph, node, "checked", of_floats[1])
    _replace(node, [_call(graph, node, function, *of_floats) for function in functions])


def _search(graph: Any, node: Any) -> None:
    text, given, *_ = node.inputs()
    if text.type().kind() != "StringType" or node.hasAttribute(GUARDED):
        return
    node.i_(GUARDED, 1)
    value = given.toIValue()  # None: it is no constant
    if node.kind() in _SEARCHES and not value:
        node.replaceInput(1, _call(graph, node, "not_empty", given))
    elif node.kind() in _WIDTHS and (value is None or value < 0):
        width = write(graph, node, "prim::max", given, number(graph, node, 0), kind=_C.IntType.get())
        node.replaceInput(1, width)


def _compute(graph: Any, node: Any) -> None:
    text, given, *rest = node.inputs()
    if node.kind() == "aten::startswith":
        start, end = rest
        if start.toIValue() != 0 and is_constant(end) and _NO_PLACE.match(end.node().sourceRange()):  # of no end
            _replace(node, [_call(graph, node, "begins", text, given, start)])
    else:
        function = "lines" if node.kind() == "aten::splitlines" else "filled"
        _replace(node, [_call(graph, node, function, text, given)])


def _pick(graph: Any, node: Any) -> None:
    values, dtype, *_ = node.inputs()
    kind = values.type()
    while kind.kind() == "ListType":
        kind = kind.getElementType()
    is_index = all(use.user.kind() == "prim::ListConstruct" for use in node.output().uses())
    is_made = _NO_PLACE.match(node.sourceRange()) is not None
    if kind.kind() == "BoolType" and dtype.toIValue() == _INT64 and is_index and is_made:
        node.replaceInput(1, number(graph, node, _BOOL))


def _replace(node: Any, results: list[Any]) -> None:
    """Puts values in the place of the results of a node, and removes it."""
    for output, result in zip(list(node.outputs()), results, strict=True):
        output.replaceAllUsesWith(result)
    node.destroy()


def _call(graph: Any, before: Any, function: str, *inputs: Any) -> Any:
    """Writes all that a function above does before a node, and returns its result. Errors show the node's line."""
    body = _compiled(function).graph.copy()
    for node in _nodes(body):
        node.copyMetadata(before)
    graph.setInsertPoint(before)
    return graph.insertGraph(body, list(inputs))[0]


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


@functools.cache
def _compiled(function: str) -> Any:
    return compile_function(
        f"__torch__.torchremote.guards.{function}", parsed(_TEXTS[function]), resolver({"math": math})
    )
