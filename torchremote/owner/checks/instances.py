"""Refuses `isinstance` where TorchScript answers it wrongly, without a word.

Note [isinstance]
    TorchScript compares the types that it has. A bool is no int in it, and a member of an IntEnum neither. A parameter
    and a tensor have one type, and so have a NamedTuple and a tuple of such items. What is a tuple of numbers or of
    tensors in Python, as `x.shape` and `x.split(2)` are, is a list. Parts of a class have several types, of which it
    takes one. So a module would take the other branch.

    A value of type Any may be a bool, so it has to be asked for a bool, too, or first. In a graph, nothing can be put
    right: TorchScript takes the value for an int after the question. A module that was scripted before is not searched.
"""

from __future__ import annotations

import ast
import enum
import typing
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import torch

from .kinds import Kinds, is_of_torch
from .kinds_of_values import BOOL, FLOAT, INT, NUMBER, TENSOR_KINDS, TENSORS
from .scripted_code import Code
from .source import last_name

_LISTED: Final = frozenset("chunk shape size split stride tensor_split unbind".split())
"""Attributes, methods and functions of tensors that give a tuple in Python, and a list in TorchScript."""
_KINDS: Final = {BOOL: bool, INT: int, FLOAT: float, NUMBER: float}
_PARAMETERS: Final = (torch.nn.Parameter, torch.nn.Buffer)


class _Question(NamedTuple):
    node: ast.Call
    value: ast.expr
    shown: str
    classes: list[type]  # that are asked for, as far as they are known


def check_instances(kinds: Kinds) -> None:
    """Raises CreationError for an `isinstance` that TorchScript answers in another way, with the line and a remedy."""
    code = kinds.code
    questions = [one for node in code.source.nodes for one in _questions(code, node)]
    questions.sort(key=lambda one: (one.node.lineno, one.node.col_offset))
    for position, one in enumerate(questions):
        beside = [*questions[:position], *_beside(code, one.node)]
        apart = {cls for other in beside if other.shown == one.shown for cls in other.classes}
        if reason := _reason(kinds, one, apart):
            raise code.refusal(one.node, f"is answered in another way by TorchScript: {reason}")


def _questions(code: Code, node: ast.AST) -> Iterator[_Question]:
    """Yields the question that a call is, if it is one."""
    if not isinstance(node, ast.Call) or last_name(node.func) != "isinstance" or len(node.args) != 2:
        return
    if code.value(node.func) in (isinstance, torch.jit.isinstance):
        yield _Question(node, node.args[0], ast.unparse(node.args[0]), list(_classes(code, node.args[1])))


def _beside(code: Code, node: ast.AST) -> Iterator[_Question]:
    """Yields what is asked in the same condition, as in `isinstance(v, int) and not isinstance(v, bool)`."""
    for condition in code.source.nodes:
        if isinstance(condition, ast.BoolOp):
            inside = list(ast.walk(condition))
            if node in inside:
                yield from (one for inner in inside if inner is not node for one in _questions(code, inner))


def _classes(code: Code, given: ast.expr) -> Iterator[type]:
    """Yields the classes that a question names, as far as they are known."""
    found: object = None
    if isinstance(given, ast.Tuple):
        for one in given.elts:
            yield from _classes(code, one)
    else:
        found = code.value(given)
    yield from (one for one in (found if isinstance(found, tuple) else [found]) if isinstance(one, type))


def _reason(kinds: Kinds, question: _Question, apart: set[type]) -> str | None:
    """Words why an answer is wrong, and what to write. None: it is right, as far as is known.

    Args:
        apart: the classes for which the same value is asked before, or beside. It may be none of those any more.
    """
    _, value, shown, classes = question
    names = ", ".join(dict.fromkeys(cls.__name__ for cls in classes))
    parts = kinds.code.modules(value)
    if any(isinstance(part, tuple(classes)) for part in parts):
        return f"parts have no classes there; ask in __init__, as in `self.answer = isinstance({shown}, {names})`"
    if _is_listed(kinds, value):
        is_one = (tuple in classes) != (list in classes)
        both = f"it is a list there, and a tuple in Python; write `isinstance({shown}, (list, tuple))`"
        return both if is_one else None
    types = list(_types(kinds, value))
    if any(cls in _PARAMETERS for cls in classes) and torch.Tensor not in classes and _may_be_tensor(types):
        return (
            "parameters and tensors have one type there; ask in __init__, as in "
            "`self.is_parameter = isinstance(self.scale, nn.Parameter)`, and leave the question out for an argument, "
            "which arrives as a tensor"
        )
    for one in types:
        origin = typing.get_origin(one) or one
        if one is typing.Any:
            origin = bool
        if not isinstance(origin, type) or origin in apart:
            continue
        is_copied = origin is bool or issubclass(origin, enum.Enum)
        if is_copied and origin not in classes and issubclass(origin, tuple(classes)):
            what = "a bool" if origin is bool else f"a member of {origin.__name__}"
            what = f"it may be a bool, and {what}" if one is typing.Any else what
            which = next(cls for cls in classes if issubclass(origin, cls))
            return (
                f"{what} is no {which.__name__} there; write "
                f"`isinstance({shown}, ({names}, {origin.__name__}))`, or ask for {origin.__name__} first"
            )
        if issubclass(origin, tuple) and not issubclass(origin, tuple(classes)):
            named = next((cls for cls in classes if _has_fields_of(cls, one)), None)
            if named is not None:
                return (
                    f"a tuple with the types of {named.__name__} is one there; declare the value as "
                    f"{named.__name__}, or write `isinstance({shown}, tuple)`"
                )
    return None


def _is_listed(kinds: Kinds, value: ast.expr) -> bool:
    """Says whether an expression is a list in TorchScript that is a tuple in Python."""

    def gives(expression: ast.expr, names: set[str]) -> bool:
        if isinstance(expression, ast.Name):
            return expression.id in names
        if isinstance(expression, ast.Subscript):
            return isinstance(expression.slice, ast.Slice) and gives(expression.value, names)
        function = expression.func if isinstance(expression, ast.Call) else expression
        name, arguments = last_name(function), expression.args if isinstance(expression, ast.Call) else []
        found = kinds.code.value(function)
        if not isinstance(function, ast.Attribute) or name not in _LISTED or kinds.code.modules(function.value):
            return False
        is_whole = (name == "shape") != isinstance(expression, ast.Call) and not (
            name in ("size", "stride") and arguments
        )
        tensor = arguments[0] if arguments and found is not None else function.value
        return is_whole and kinds.is_tensor(tensor) and (found is None or is_of_torch(found))

    return gives(value, kinds.code.names(lambda annotation: False, gives))


def _types(kinds: Kinds, value: ast.expr) -> Iterable[object]:
    """Returns the types that a value may have in Python, as far as is known."""
    code = kinds.code
    if isinstance(value, ast.Name):
        annotations = [one.annotation for one in code.source.arguments if one.arg == value.id]
        annotations += [
            one.annotation
            for one in code.source.nodes
            if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and one.target.id == value.id
        ]
        if any(annotations):
            return [found for one in annotations if one is not None for found in _alternatives(code, one)]
    held = code.value(value)
    if held is not None:
        return [type(held)]
    kind = kinds.kind(value)
    if kind in TENSOR_KINDS:
        return [torch.Tensor]
    return [list] if kind == TENSORS else [_KINDS[kind]] if kind in _KINDS else []


def _alternatives(code: Code, annotation: ast.expr) -> Iterator[object]:
    """Yields the types that an annotation allows, also those of tuples, with as many items."""
    match annotation:
        case ast.BinOp(left=left, right=right):
            yield from (*_alternatives(code, left), *_alternatives(code, right))
        case ast.Subscript(value=outer, slice=inner) if last_name(outer) in ("Optional", "Union"):
            for one in inner.elts if isinstance(inner, ast.Tuple) else [inner]:
                yield from _alternatives(code, one)
        case ast.Subscript(value=outer, slice=ast.Tuple(elts=items)) if last_name(outer) in ("Tuple", "tuple"):
            yield tuple[tuple(typing.Any for _ in items)]  # type: ignore[misc]
        case _:
            yield from code.alternatives(annotation)


def _may_be_tensor(types: list[object]) -> bool:
    return any(one is typing.Any or one is torch.Tensor for one in types)


def _has_fields_of(cls: type, kind: object) -> bool:
    """Says whether a type is a tuple of as many items as a NamedTuple has."""
    return issubclass(cls, tuple) and len(getattr(cls, "_fields", ())) == len(typing.get_args(kind)) > 0
