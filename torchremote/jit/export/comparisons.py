"""Writes the comparisons of which guards are made."""

from __future__ import annotations

import math
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
