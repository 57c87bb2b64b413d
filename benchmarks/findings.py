"""What a benchmark found, and how that compares with its targets."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .timing import Rounds


@dataclass(frozen=True)
class Target:
    """A bound on how many times `to` the contender `of` is: at most it, or, with `at_least`, at least."""

    of: str
    to: str
    bound: float
    at_least: bool = False
    statistic: str = "median"  # of a round's values, or "p99"
    why: str = ""  # what stands in the way where it is missed


@dataclass(frozen=True)
class Ratio:
    """What came of a target: the median over rounds of the ratio within a round, and its quartiles."""

    target: Target
    value: float
    low: float
    high: float

    @property
    def met(self) -> bool:
        return self.value >= self.target.bound if self.target.at_least else self.value <= self.target.bound


@dataclass
class Findings:
    question: str
    unit: str  # of the values
    scale: float  # by which values are multiplied to be in that unit
    rounds: Rounds
    targets: Sequence[Target] = ()
    left_out: dict[str, str] = field(default_factory=dict)  # contenders that could not take part, and why
    notes: Sequence[str] = ()

    def summary(self, contender: str) -> dict[str, float]:
        """In `unit`: of all values the median and p99, and the quartiles of the rounds' medians."""
        rounds = self.rounds[contender]
        every = sorted(value for values in rounds for value in values)
        low, high = quartiles([statistics.median(values) for values in rounds])
        found = {"median": statistics.median(every), "p99": percentile_99(every), "low": low, "high": high}
        return {name: value * self.scale for name, value in found.items()}

    def ratios(self) -> list[Ratio]:
        return [self._ratio(target) for target in self.targets if {target.of, target.to} <= set(self.rounds)]

    def _ratio(self, target: Target) -> Ratio:
        statistic = statistics.median if target.statistic == "median" else percentile_99
        each = [
            statistic(of) / statistic(to) for of, to in zip(self.rounds[target.of], self.rounds[target.to], strict=True)
        ]
        return Ratio(target, statistics.median(each), *quartiles(each))

    def as_json(self) -> dict[str, Any]:
        return {
            "question": self.question,
            "unit": self.unit,
            "contenders": {name: self.summary(name) for name in self.rounds},
            "ratios": [
                {**asdict(ratio.target), "value": ratio.value, "low": ratio.low, "high": ratio.high, "met": ratio.met}
                for ratio in self.ratios()
            ],
            "rounds": len(next(iter(self.rounds.values()))),
            "left_out": self.left_out,
            "notes": list(self.notes),
        }


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def percentile_99(values: Sequence[float]) -> float:
    return values[0] if len(values) == 1 else statistics.quantiles(values, n=100, method="inclusive")[98]
