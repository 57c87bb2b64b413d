"""Reads how often methods of hosted modules were called, how often they failed, and how long they took.

What counts is in jit/runtime/counting.py, Note [Counting].
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ... import _torch, native
from ...jit.runtime.counting import BUCKETS, FAILED, PER_OCTAVE


@dataclass(frozen=True)
class CallStats:
    """Counts the calls of one method of a hosted module that have ended.

    >>> stats = CallStats(failures=1, durations={2: 98, 40: 2})
    >>> stats.calls
    101
    >>> stats.quantile(0.5) < 1e-6 < stats.quantile(0.99)
    True
    """

    failures: int
    durations: Mapping[int, int]  # calls that succeeded, by bucket: `upper_bound` says how long these took

    @property
    def calls(self) -> int:
        """Returns how many calls have ended, failures included."""
        return self.failures + sum(self.durations.values())

    def quantile(self, part: float) -> float | None:
        """Returns the seconds that a part of the calls that succeeded took at most, within 10%. None: there were none.

        Args:
            part: 0.5 for the median, 0.99 for all but one in a hundred.
        """
        left = part * sum(self.durations.values())
        for bucket, count in sorted(self.durations.items()):
            left -= count
            if left <= 0:
                return (upper_bound(bucket - 1) + upper_bound(bucket)) / 2
        return None

    def after(self, before: CallStats) -> CallStats:
        """Returns the counts of those calls that are not in `before`."""
        durations = {bucket: count - before.durations.get(bucket, 0) for bucket, count in self.durations.items()}
        return CallStats(
            self.failures - before.failures, {bucket: count for bucket, count in durations.items() if count}
        )


def upper_bound(bucket: int) -> float:
    """Returns the seconds below which the calls of a bucket took."""
    return float(2 ** ((bucket + 1) / PER_OCTAVE) - 1) * 1e-6


_numbers = itertools.count(1)


def new_counts() -> object:
    """Makes the object in which a module's calls are counted. None: this process does not count."""
    if not _torch.is_counting():
        return None
    return native.new_counts() if native.available() else f"{next(_numbers)} "


def read_counts(counts: Any, method: str) -> CallStats:
    """Reads the counts of a method of one module."""
    if isinstance(counts, str):  # the keys begin with it
        *durations, failures = (_torch.counted(f"{counts}{method} {bucket}") for bucket in (*range(BUCKETS), FAILED))
    else:
        *durations, failures = counts.read(method)
    return CallStats(failures, {bucket: count for bucket, count in enumerate(durations) if count})
