"""Counts the calls of hosted modules, and how long they take.

A process compiles this text once, and only if it counts: see lower/counted.py.

Note [Counting]
    TorchScript has no integer that several threads can add to without losing some. torch's logger of statistics has: it
    keeps one number for each key, under a lock. To add to it takes longer than all else here, so a call does it once:
    the key says which module and method it was, and whether it failed, or else how long it took. All other numbers are
    sums of these.

    Durations are in buckets, `PER_OCTAVE` for each doubling, from a microsecond on. So a quantile is exact to 10%.

    TorchScript cannot catch an exception, but leaves a `with` in an orderly way.
"""

from __future__ import annotations

import math
from typing import Any, Final

import torch

PER_OCTAVE: Final = 4
BUCKETS: Final = 128
FAILED: Final = -1
"""The bucket of calls that failed."""


class Counting:
    def __init__(self, key: str):
        self.key = key
        self.done = False
        self.began: int = torch.ops.prim.TimePoint()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        bucket = FAILED
        if self.done:
            took: int = torch.ops.prim.TimePoint() - self.began
            bucket = min(int(math.log(took / 1000.0 + 1.0) * PER_OCTAVE / math.log(2.0)), BUCKETS - 1)
        torch.ops.prim.AddStatValue(self.key + str(bucket), 1)
