"""Timing contenders in turn, so that all of them meet the machine in the same moods."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

Rounds = dict[str, list[list[float]]]
"""By contender, what each round measured: one value a call, or one for all of it."""

Block = Callable[[int], list[float]]
"""Makes so many calls. Returns the seconds of each."""


def timed(call: Callable[[], object]) -> Block:
    def block(calls: int) -> list[float]:
        seconds = []
        for _ in range(calls):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        return seconds

    return block


def in_flight(stub: Any, x: torch.Tensor, depth: int, every: int = 1) -> Block:
    """Makes `depth` calls at once, for every so many that are asked for. Returns the seconds of one."""
    together = timed(lambda: torch.futures.wait_all([stub.forward_async(x) for _ in range(depth)]))
    return lambda calls: [seconds / depth for seconds in together(max(1, calls // every))]


def interleave(contenders: Mapping[str, Block], rounds: int, calls: int, warm_up: int) -> Rounds:
    """Returns the seconds of each call. A round makes `calls` of each contender, one contender after the other."""
    for block in contenders.values():
        block(warm_up)
    found: Rounds = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, block in contenders.items():
            found[name].append(block(calls))
    return found


def interleave_rates(
    contenders: Mapping[str, Callable[[], object]], rounds: int, amount: float, warm_up: int
) -> Rounds:
    """Returns how much is done in a second, where each contender's call does `amount`: one value a round."""
    blocks = {name: timed(call) for name, call in contenders.items()}
    took = interleave(blocks, rounds, calls=1, warm_up=warm_up)
    return {name: [[amount / seconds for seconds in values] for values in found] for name, found in took.items()}
