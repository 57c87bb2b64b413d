"""Compares the sizes and integers of a call with those that a graph was traced with, where one symbol is one size.

Note [Sizes computed of others]
    torch.export writes a size as a number, as a symbol, or as an expression of symbols. The first size that is a symbol
    alone says what the symbol is. Expressions are compared when all symbols are known. One that is a multiple of a
    symbol that no size says, such as `4 * s + 1`, says it itself: it has to leave no rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from ..lower import ir
from .comparisons import any_of, limits_of
from .conditions import condition

_NAMES: Final = "nmk"
"""How messages call symbols that are no size of an argument."""


class Computed(NamedTuple):
    """A comparison of a size that is computed of others."""

    wrong: ir.Expression
    where: str  # names the size
    right: str  # says what is right
    value: ir.Expression


class Sizes:
    """Compares sizes and integers.

    Args:
        ranges: those of torch.export's symbols.
        where: names interface and method in errors of the export.
    """

    def __init__(self, ranges: Mapping[str, Any], where: str) -> None:
        self._ranges = ranges
        self._where = where
        self._symbols: dict[str, ir.Expression] = {}
        self._shown: dict[str, str] = {}  # how messages call a symbol
        self._left: list[tuple[ir.Expression, Any, str]] = []  # what is computed of others

    def compare(self, value: ir.Expression, size: Any, where: str, wrong: list[ir.Expression]) -> str:
        """Adds what would be wrong about a size or an integer. Returns how messages show what is right."""
        if isinstance(size, int):
            wrong.append(ir.Operation("!=", value, ir.Literal(size)))
            return str(size)
        expression = size.node.expr
        text = str(expression)
        if expression.is_Integer:
            wrong.append(ir.Operation("!=", value, ir.Literal(int(expression))))
            return text
        if text in self._symbols:
            wrong.append(ir.Operation("!=", value, self._symbols[text]))
            return self._shown[text]
        if not expression.is_Symbol:
            self._left.append((value, expression, where))
            return self._named(expression)
        self._symbols[text], self._shown[text] = value, where
        return self._limit(text, value, not where.endswith(")"), wrong) or "any"

    def _limit(self, symbol: str, value: ir.Expression, is_signed: bool, wrong: list[ir.Expression]) -> str:
        """Adds what would be out of a symbol's range. Returns how messages show that; "" if nothing is.

        Args:
            is_signed: the value may be less than 0, as no size is.
        """
        lower, upper = limits_of(self._ranges.get(symbol))
        limits = []
        if lower is not None and (lower > 0 or is_signed):
            wrong.append(ir.Operation("<", value, ir.Literal(lower)))
            limits.append(f">= {lower}")
        if upper is not None:
            wrong.append(ir.Operation(">", value, ir.Literal(upper)))
            limits.append(f"<= {upper}")
        return " and ".join(limits)

    def computed(self) -> Iterator[Computed]:
        """Yields the comparisons of what is computed of others.

        Raises:
            CreationError: generated code could not check it.
        """
        others = []
        for one in self._left:
            multiple = self._multiple(*one)
            if multiple is None:
                others.append(one)
            else:
                yield multiple
        for one in others:
            yield self._of_known(*one)

    def _multiple(self, value: ir.Expression, expression: Any, where: str) -> Computed | None:
        """Compares a multiple of a symbol that is not known, which is so then. None: it is none."""
        unknown = [symbol for symbol in expression.free_symbols if str(symbol) not in self._symbols]
        if len(unknown) != 1 or len(expression.free_symbols) != 1:
            return None
        symbol = unknown[0]
        factor, rest = expression.coeff(symbol, 1), expression.coeff(symbol, 0)
        if not factor.is_Integer or not rest.is_Integer or expression != factor * symbol + rest:
            return None
        factor, rest = int(factor), int(rest)
        right = f"a size of {self._named(expression)}"
        many = value if not rest else ir.Operation("-", value, ir.Literal(rest))
        if factor < 0:
            many, factor = ir.Operation("-", ir.Literal(rest), value), -factor
        found = many if factor == 1 else ir.Operation("//", many, ir.Literal(factor))
        self._symbols[str(symbol)] = found
        wrong: list[ir.Expression] = []
        if factor != 1:
            wrong.append(ir.Operation("!=", ir.Operation("%", many, ir.Literal(factor)), ir.Literal(0)))
        limits = self._limit(str(symbol), found, many is not value or not where.endswith(")"), wrong)
        if limits:
            right += f", {self._shown[str(symbol)]} {limits}"
        return Computed(any_of(wrong) if wrong else ir.Literal(False), where, right, value)

    def _of_known(self, value: ir.Expression, expression: Any, where: str) -> Computed:
        divisors: list[ir.Expression] = []
        wanted = condition(str(expression), self._symbols.get, self._where, divisors)
        by_zero = [ir.Operation("==", one, ir.Literal(0)) for one in divisors]
        wrong = any_of([*by_zero, ir.Operation("!=", value, wanted)])
        return Computed(wrong, where, f"a size of {self._named(expression)}", value)

    def _named(self, expression: Any) -> str:
        """Shows a size that is computed of others, with the arguments' names."""
        text = str(expression)
        for symbol in sorted(map(str, expression.free_symbols)):
            if symbol not in self._shown:
                self._shown[symbol] = next((one for one in _NAMES if one not in self._shown.values()), symbol)
        for symbol in sorted(self._shown, key=len, reverse=True):
            text = text.replace(symbol, self._shown[symbol])
        return text
