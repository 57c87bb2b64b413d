"""Knows which operators TorchScript differentiates otherwise than torch, and writes those so that torch does it.

From a method's second or third call on, TorchScript differentiates operators that follow one another by formulas of its
own, if it has one for each of them. Some differ from torch's: at ties, at bounds, for bounds that are tensors, where a
gradient or a square is inf, for complex numbers, for several dtypes. Some raise for sizes of 0. An operator that stands
alone is left to torch. So those get neighbors for which TorchScript has no formula, and which do nothing: `resolve_neg`
returns its argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import torch

from .nodes import value_of

_DIFFERENT: Final = frozenset(
    f"aten::{name}"
    for name in "clamp clip max.other min.other where relu relu6 hardtanh hardswish hardshrink threshold softplus pow "
    "div divide true_divide std var dropout nll_loss type_as reciprocal rsqrt addcmul".split()
)
"""Operators whose formula differs on some numbers. Of `dropout`, it also draws others."""
_DIFFERENT_IN_DOUBLES: Final = ("aten::leaky_relu", "aten::hardsigmoid")
"""Operators whose formula, or torch's own, has a factor of single precision."""
_CONVERSIONS: Final = ("aten::_to_copy", "aten::to")


def differ(schema: Any, arguments: Iterable[Any], keywords: Mapping[str, Any]) -> bool:
    """Says whether TorchScript's derivatives of an operator may differ from torch's, for these arguments."""
    if any(declared.alias_info for declared in schema.arguments):
        return False  # a view or a change in place: TorchScript has no formula, or an equal one
    if schema.name in _DIFFERENT or f"{schema.name}.{schema.overload_name}" in _DIFFERENT:
        return True
    given = {**dict(zip((one.name for one in schema.arguments), arguments, strict=False)), **keywords}
    values = list(_values(given.values()))
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    dtypes = {one.dtype for one in tensors if one.is_floating_point() or one.is_complex()}
    dtypes |= {one for one in values if isinstance(one, torch.dtype)}
    if schema.name not in _CONVERSIONS and len(dtypes) > 1:
        return True
    if any(one.is_complex for one in dtypes) or any(isinstance(value, complex) for value in values):
        return True
    if schema.name in _DIFFERENT_IN_DOUBLES and torch.float64 in dtypes:
        return True
    return _differs_by_sizes(schema.name, given, tensors)


def _differs_by_sizes(name: str, given: Mapping[str, Any], tensors: Sequence[torch.Tensor]) -> bool:
    """Says whether an operator is one of those that differ for some ranks or dimensions, or raise for sizes of 0."""
    ranks = [one.dim() for one in tensors]
    match name:
        case "aten::cat" | "aten::concat":  # with an empty tensor of one dimension
            return len(set(ranks)) > 1
        case "aten::mean":  # over no dimensions, which are all
            return given.get("dim") in ([], ())
        case "aten::linear":
            return ranks[1] == 1 or _may_be_empty(tensors[1])
        case "aten::matmul" if max(ranks) > 2:
            smaller = min(tensors, key=torch.Tensor.dim)
            return smaller.dim() <= 2 and _may_be_empty(smaller)
        case "aten::batch_norm":
            return given["weight"] is None and _may_be_empty(tensors[0])
    return False


def _may_be_empty(tensor: torch.Tensor) -> bool:
    """Says whether a tensor of the graph may have no elements in some call."""
    return any(not isinstance(size, int) or size == 0 for size in tensor.shape)


def _values(arguments: Iterable[Any]) -> Iterator[Any]:
    """Yields what arguments in a graph stand for."""
    for argument in arguments:
        if isinstance(argument, (list, tuple)):
            yield from _values(argument)
        else:
            yield value_of(argument)
