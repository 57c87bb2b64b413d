"""Writes the comparisons of which guards are made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..lower import ir

_LARGEST: Final = 2**62


def limits_of(bounds: Any) -> tuple[int | None, int | None]:
    """Returns the least and the largest value of a symbol; None where there is no limit."""
    if bounds is None:
        return None, None
    lower = int(bounds.lower) if bounds.lower.is_Integer and int(bounds.lower) > -_LARGEST else None
    upper = int(bounds.upper) if bounds.upper.is_Integer and int(bounds.upper) < _LARGEST else None
    return lower, upper


def has_other_length(value: ir.Expression, length: int) -> ir.Expression:
    """Compares the length of a list or dict with one of the graph."""
    return ir.Operation("!=", ir.length(value), ir.Literal(length))


def is_another(value: ir.Expression, number: float | complex) -> ir.Expression:
    """Compares a float or complex number with one of the graph. The sign of 0 counts, and nan is nan."""
    parts = [number] if isinstance(number, float) else [number.real, number.imag]
    given = [ir.Literal(part if part else 0.0) for part in parts]
    signs = [ir.Literal(math.copysign(1.0, part) < 0) for part in parts]
    if isinstance(number, float):
        return ir.negated(ir.call("is_alike", value, *given, *signs))
    return ir.negated(ir.call("is_complex_alike", value, ir.ListOf(tuple(given)), ir.ListOf(tuple(signs))))


def any_of(tests: list[ir.Expression]) -> ir.Expression:
    """Joins tests, at least one, with `or`."""
    joined = tests[0]
    for test in tests[1:]:
        joined = ir.Operation("or", joined, test)
    return joined


def text_of(value: ir.Expression) -> ir.Expression:
    """Writes a value as text, for an error."""
    return ir.call("str", value)


def repeats_sizes(right: ir.Expression, leaves: Mapping[int, ir.Expression], values: Sequence[Any]) -> bool:
    """Says whether a condition is always so, or only repeats the sizes of the graph's inputs.

    Args:
        leaves, values: what the inputs are in the generated code, and in the graph.
    """
    match right:
        case ir.Literal(True):
            return True
        case ir.Operation("==", ir.Call(ir.Attribute(value, "size"), (ir.Literal(int(n)),)), ir.Literal(int(size))):
            index = next((index for index, leaf in leaves.items() if leaf == value), None)
            return index is not None and str(values[index].shape[n]) == str(size)
        case ir.Operation(
            "==",
            ir.Call(ir.Attribute(one, "size"), (ir.Literal(int(n)),)),
            ir.Call(ir.Attribute(other, "size"), (ir.Literal(int(m)),)),
        ):
            found = [index for wanted in (one, other) for index, leaf in leaves.items() if leaf == wanted]
            return str(values[found[0]].shape[n]) == str(values[found[1]].shape[m])
    return False
