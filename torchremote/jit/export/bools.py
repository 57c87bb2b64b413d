"""Knows where TorchScript would compute with 1 for True, and finds the overload that takes a tensor there.

TorchScript has no bool among the numbers that an operator takes: it makes an integer of it. An integer promotes a
tensor of bools to integers, and a bool does not: `mask & True` would be of int64. A tensor of no dimensions promotes as
a number does. So where it matters, an operator gets one for a bool.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

import torch

from ... import _torch
from .nodes import value_of

_NUMBERS: Final = ("number", "Optional[number]")
_REFUSE_BOOLS: Final = frozenset(f"aten::{name}" for name in "sub sub_ subtract subtract_ rsub".split())
"""Operators that raise for a bool, where 1 would do."""


def is_bool(value: Any) -> bool:
    """Says whether a value of the graph is a bool: a constant, or one that is computed."""
    found = value_of(value)
    return isinstance(found, (bool, torch.SymBool))


def _values_of(value: Any) -> list[torch.Tensor]:
    """Returns the tensors that a value of the graph stands for."""
    found = value_of(value)
    if isinstance(found, (list, tuple)):
        return [tensor for item in found for tensor in _values_of(item)]
    return [found] if isinstance(found, torch.Tensor) else []


def differs(target: Any, node: torch.fx.Node) -> bool:
    """Says whether an operator takes a bool for a number, and gives something else for an integer there."""
    schema = _torch.operator_schema(target)
    numbers = {name for name, value in _numbers(schema, node.args, dict(node.kwargs)) if is_bool(value)}
    if not numbers:
        return False
    if schema.name in _REFUSE_BOOLS:
        return True
    tensors = [one for value in (*node.args, *node.kwargs.values()) for one in _values_of(value)]
    if not any(one.dtype == torch.bool for one in (*tensors, *_values_of(node))):
        return False  # an integer promotes what is no bool as a bool does
    if not schema.name.startswith("aten::"):
        return True
    return any(not _gives(target, node, dict.fromkeys(numbers, number)) for number in (1, True))


def with_tensors(target: Any, node: torch.fx.Node) -> Any:
    """Returns the overload that takes a tensor for each bool that `target` takes for a number, or None."""
    schema = _torch.operator_schema(target)
    wanted = {name for name, value in _numbers(schema, node.args, dict(node.kwargs)) if is_bool(value)}
    kinds = [(one.name, str(one.type)) for one in schema.arguments]
    for other in _torch.operator_overloads(target):
        arguments = _torch.operator_schema(other).arguments
        if len(arguments) != len(kinds):
            continue
        found = [(one.name, str(one.type)) for one in arguments]
        if all(
            one[0] == own[0] and (one[1] in ("Tensor", "Optional[Tensor]") if own[0] in wanted else one[1] == own[1])
            for one, own in zip(found, kinds, strict=True)
        ) and (schema.name in _REFUSE_BOOLS or _gives(other, node, dict.fromkeys(wanted, torch.tensor(True)))):
            return other
    return None


def _gives(target: Any, node: torch.fx.Node, others: dict[str, Any]) -> bool:
    """Says whether an operator gives the dtypes that a node has in the graph, when it gets `others` by their names."""
    schema = _torch.operator_schema(target)
    given = dict(zip((one.name for one in schema.arguments), node.args, strict=False)) | dict(node.kwargs)
    tried = {name: others[name] if name in others else _like(value) for name, value in given.items()}
    positional = [tried.pop(one.name) for one in schema.arguments if not one.kwarg_only and one.name in tried]
    with suppress(Exception):  # such as a result of integers, for a tensor of bools to be changed in place
        result = target(*positional, **tried)
        return [one.dtype for one in _values_of(result)] == [one.dtype for one in _values_of(node)]
    return False


def _numbers(schema: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    """Yields the arguments for which a schema declares a number, by name."""
    given = dict(zip((one.name for one in schema.arguments), arguments, strict=False)) | keywords
    return [(one.name, given[one.name]) for one in schema.arguments if one.name in given and str(one.type) in _NUMBERS]


def _like(value: Any) -> Any:
    """Returns a value like one of the graph, to try an operator with: its sizes are 1."""
    if isinstance(value, (list, tuple)):
        return [_like(item) for item in value]
    found = value_of(value)
    if isinstance(found, torch.Tensor):
        return torch.zeros([1] * found.dim(), dtype=found.dtype, device="cpu")  # a size is also an index
    kinds = {torch.SymBool: True, torch.SymInt: 1, torch.SymFloat: 1.0}
    return kinds.get(type(found), found)
