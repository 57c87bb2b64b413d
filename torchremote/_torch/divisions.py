"""Guards the divisions of integers that would end the process."""

from __future__ import annotations

from typing import Any, Final

import torch

from .nodes import GUARDED, number, write

_C: Any = torch._C  # its type stubs lack many names

# Note [Divisions of integers]
#     TorchScript leaves divisions of integers to the processor, which ends the process for `n % 0` and for the least
#     integer divided by -1. So a divisor of -1 becomes 1, whose quotient is negated, and a remainder is calculated from
#     a quotient: TorchScript's `//` raises for 0 before it divides. What `item()` of a tensor gives may be an integer
#     or a float, and the call finds out which.
_DIVISIONS: Final = ("aten::floordiv", "aten::remainder", "aten::divmod", "aten::gcd")
_INTEGERS: Final = ("IntType", "NumberType")  # the latter is of a number that may be a float


def guard_divisions(graph: Any) -> None:
    """Has a graph that was not run yet raise for an integer modulo 0, and divide the least integer by -1.

    A graph that has its guards stays as it is.
    """
    for kind in _DIVISIONS:
        for division in graph.findAllNodes(kind):
            if _is_unguarded(division):
                _Guard(graph, division).add()


def _is_unguarded(division: Any) -> bool:
    """Says whether a division may be one of integers that ends the process."""
    inputs = list(division.inputs())
    if division.hasAttribute(GUARDED) or any(value.type().kind() not in _INTEGERS for value in inputs):
        return False
    constants = [value.toIValue() for value in inputs]  # None: it is no constant
    return any(one in (None, 0, -1) for one in (constants if division.kind() == "aten::gcd" else constants[1:]))


class _Guard:
    """Writes what guards one division before it."""

    def __init__(self, graph: Any, division: Any) -> None:
        self._graph = graph
        self._division = division
        self._int, self._bool = _C.IntType.get(), _C.BoolType.get()

    def add(self) -> None:
        division = self._division
        dividend, divisor = division.inputs()
        division.i_(GUARDED, 1)
        if division.kind() == "aten::gcd":  # it divides each by the other, and disregards signs
            for position, value in enumerate((dividend, divisor)):
                division.replaceInput(position, self._without_minus_one(value)[0])
            return
        are_integers = self._are_integers(dividend, divisor)
        if division.kind() == "aten::remainder" and are_integers is None:
            self._calculate_remainder(dividend, divisor)
            return
        safe, more = self._without_minus_one(divisor, are_integers)
        if division.kind() == "aten::remainder":  # that by 1 is 0, as by -1
            division.replaceInput(1, self._checked(safe, divisor, are_integers))
            return
        division.replaceInput(1, safe)
        self._negate(next(division.outputs()), more)

    def _are_integers(self, *values: Any) -> Any:
        """Writes whether all these are integers. None: their types say so."""
        found = None
        for value in values:
            if value.type().kind() == "NumberType":
                is_integer = self._write("prim::isinstance", value, kind=self._bool)
                is_integer.node().tys_("types", [self._int])
                found = (
                    is_integer if found is None else self._write("aten::__and__", found, is_integer, kind=self._bool)
                )
        return found

    def _without_minus_one(self, divisor: Any, are_integers: Any = None) -> tuple[Any, Any]:
        """Writes the divisor, or 1 in the place of -1, and what was added to it: 0 or 2."""
        more = self._write("aten::mul", self._constant(2), self._is(divisor, -1, are_integers))
        return self._write("aten::add", divisor, more, kind=divisor.type()), more

    def _is(self, divisor: Any, number: int, are_integers: Any) -> Any:
        """Writes 1 if the divisor is this number, and 0 if it is another one, or no integers are divided."""
        is_it = self._write("aten::eq", divisor, self._constant(number), kind=self._bool)
        if are_integers is not None:
            is_it = self._write("aten::__and__", is_it, are_integers, kind=self._bool)
        return self._write("aten::Int", is_it)

    def _checked(self, safe: Any, divisor: Any, are_integers: Any) -> Any:
        """Writes what raises if the divisor is the integer 0, and is `safe` otherwise."""
        one = self._constant(1)
        quotient = self._write("aten::floordiv", one, self._write("aten::sub", one, self._is(divisor, 0, are_integers)))
        quotient.node().i_(GUARDED, 1)
        return self._write("aten::mul", safe, quotient, kind=safe.type())

    def _calculate_remainder(self, dividend: Any, divisor: Any) -> None:
        safe, _ = self._without_minus_one(divisor)
        quotient = self._write("aten::floordiv", dividend, safe)
        quotient.node().i_(GUARDED, 1)
        remainder = self._write("aten::sub", dividend, self._write("aten::mul", quotient, safe))
        self._division.replaceAllUsesWith(remainder.node())
        self._division.destroy()

    def _negate(self, quotient: Any, more: Any) -> None:
        """Writes the quotient by -1 in the place of that by 1, of which `more` says that it is."""
        sign = self._write("aten::sub", self._constant(1), more)
        negated = self._write("aten::mul", quotient, sign, kind=quotient.type())
        for one in (negated.node(), sign.node()):
            one.moveAfter(self._division)
        quotient.replaceAllUsesWith(negated)
        negated.node().replaceInput(0, quotient)

    def _constant(self, value: int) -> Any:
        return number(self._graph, self._division, value)

    def _write(self, operator: str, *inputs: Any, kind: Any = None) -> Any:
        """Writes an operator, of which the result is an int or of that `kind`, and returns the result."""
        return write(self._graph, self._division, operator, *inputs, kind=self._int if kind is None else kind)
