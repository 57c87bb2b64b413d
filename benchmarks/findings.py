"""What a benchmark found, and how that compares with its targets."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .timing import Rounds

OURS = "torchremote"
"""How the names of contenders begin that are ours."""


@dataclass(frozen=True)
class Target:
    """A bound on how many times `to` the contender `of` is: at most it, or, with `at_least`, at least."""

    of: str
    to: str
    bound: float
    at_least: bool = False
    statistic: str = "median"  # of a round's values, or "p99"


@dataclass(frozen=True)
class Ratio:
    """Tells what came of a target: the median over rounds of the ratio within a round."""

    target: Target
    value: float
    low: float  # quartiles over rounds
    high: float
    least: float  # the true median surely lies between these two
    most: float

    @property
    def verdict(self) -> str:
        """Is "met" or "missed" where all of the interval is on one side of the bound, and else "unsure"."""
        best, worst = (self.most, self.least) if self.target.at_least else (self.least, self.most)
        sign = -1 if self.target.at_least else 1
        if sign * worst <= sign * self.target.bound:
            return "met"
        return "missed" if sign * best > sign * self.target.bound else "unsure"


@dataclass
class Findings:
    question: str
    unit: str  # of the values
    scale: float  # by which values are multiplied to be in that unit
    rounds: Rounds
    targets: Sequence[Target] = ()
    left_out: dict[str, str] = field(default_factory=dict)  # contenders that could not take part, and why
    notes: Sequence[str] = ()
    sittings: list[int] = field(default_factory=list)  # how many rounds each had; a sitting has processes of its own

    def __post_init__(self) -> None:
        self.sittings = self.sittings or [max(map(len, self.rounds.values()), default=0)]

    def add(self, sitting: Findings) -> None:
        """Adds the rounds of another sitting, in which the same was measured."""
        self.sittings += sitting.sittings
        for contender, rounds in sitting.rounds.items():
            self.rounds[contender].extend(rounds)

    def summary(self, contender: str) -> dict[str, float]:
        """Returns, in `unit`, the median and p99 of all values, and the quartiles of the rounds' medians."""
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
        return Ratio(target, statistics.median(each), *quartiles(each), *interval(each, self.sittings))

    def as_json(self) -> dict[str, Any]:
        return {
            "question": self.question,
            "unit": self.unit,
            "contenders": {name: self.summary(name) for name in self.rounds},
            "ratios": [_ratio_as_json(ratio) for ratio in self.ratios()],
            "rounds": len(next(iter(self.rounds.values()))),
            "left_out": self.left_out,
            "notes": list(self.notes),
        }


def _ratio_as_json(ratio: Ratio) -> dict[str, Any]:
    found = {**asdict(ratio.target), **asdict(ratio), "verdict": ratio.verdict}
    del found["target"]
    # JSON has no infinity.
    return {name: None if value in (-math.inf, math.inf) else value for name, value in found.items()}


SURE = 0.99
"""How often an interval has the true median in it."""

FEWEST = 6
"""With fewer rounds, even the lowest and the highest do not enclose the true median often enough."""

RESAMPLES = 1000


def interval(values: Sequence[float], sittings: Sequence[int] = ()) -> tuple[float, float]:
    """Returns two bounds between which the true median lies, in `SURE` of all cases: a bootstrap.

    Rounds of one sitting share their processes, and agree better than those of different sittings do. So sittings are
    drawn first, and then rounds of each.

    Args:
        values: of the rounds, one sitting after the other.
        sittings: how many rounds each had; all were in one by default.
    """
    if len(values) < FEWEST:
        return -math.inf, math.inf
    ends = [0, *itertools.accumulate(sittings or [len(values)])]
    blocks = [values[start:end] for start, end in itertools.pairwise(ends)]
    draw = random.Random(0)  # the same rounds are always judged alike
    medians = []
    for _ in range(RESAMPLES):
        drawn = draw.choices(blocks, k=len(blocks))
        medians.append(statistics.median([value for block in drawn for value in draw.choices(block, k=len(block))]))
    medians.sort()
    outside = round(RESAMPLES * (1 - SURE) / 2)
    return medians[outside], medians[-1 - outside]


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def percentile_99(values: Sequence[float]) -> float:
    return values[0] if len(values) == 1 else statistics.quantiles(values, n=100, method="inclusive")[98]
