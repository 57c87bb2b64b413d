"""`python -m benchmarks.against PATH`: compares this checkout with another one, say of an older commit.

Both take turns in one run. A call is [4, 8] float32 through a Linear(8, 8); it is made alone, and with 99 others in
flight. Each process stays on one core, which makes small differences visible. Compiling and memory are measured in a
fresh process each round; compiling is time of the processor. The table has the medians over rounds, and the ratio
new / old within a round: its median, its quartiles, and the interval in which the true median surely is.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from .findings import interval, quartiles
from .turns import HERE, Pair, ask_alone

OLD, NEW = "old", "new"

# What is shown: its name, its unit, and by what a value is multiplied to have that unit.
SHOWN = {
    "call": ("one call", "us", 1e6),
    "in_flight": ("a call, 100 in flight", "us", 1e6),
    "first": ("compiling a method, first interface of 10", "ms", 1e3),
    "later": ("compiling a method, later interface of 10", "ms", 1e3),
    "lines": ("lines emitted for the README's Encoder", "", 1),
    "memory": ("memory of an interface of 2 methods", "KiB", 1 / 1024),
}

CALLS = {"call": (1, 100), "in_flight": (100, 5)}
"""What is measured in a pair: how many calls are in flight, and how often in a round."""

Found = dict[str, dict[str, list[float]]]
"""By what was measured and by checkout, a value a round."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against", description=__doc__)
    parser.add_argument("other", type=Path, help="the folder of the other checkout, called old")
    parser.add_argument("--sittings", type=int, default=6, help="fresh pairs of processes (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=30, help="of 100 calls, a sitting (default: %(default)s)")
    parser.add_argument("--fresh", type=int, default=7, help="rounds in fresh processes (default: %(default)s)")
    asked = parser.parse_args()
    checkouts = {OLD: asked.other, NEW: HERE}
    found = calls(checkouts, asked.sittings, asked.rounds) | alone(checkouts, asked.fresh)
    print(as_table(found, dict.fromkeys(CALLS, [asked.rounds] * asked.sittings)))


def calls(checkouts: dict[str, Path], sittings: int, rounds: int) -> Found:
    """Measures calls in a pair of processes for each checkout, new in each sitting: pairs of one code differ, too."""
    found: Found = {what: {name: [] for name in checkouts} for what in CALLS}
    for _ in range(sittings):
        with ExitStack() as stack:
            pairs = {name: stack.enter_context(Pair(checkout, pinned=True)) for name, checkout in checkouts.items()}
            for pair in pairs.values():
                pair.call("linear", [4, 8], calls=1, warm_up=500)
            for number in range(rounds):
                for what, (depth, count) in CALLS.items():
                    # Who goes first changes, for the second finds a warmer machine.
                    for name in sorted(pairs, reverse=number % 2 == 1):
                        seconds = pairs[name].call("linear", [4, 8], count, warm_up=count // 5, in_flight=depth)
                        found[what][name].append(statistics.median(seconds))
    return found


def alone(checkouts: dict[str, Path], rounds: int) -> Found:
    """Measures what needs a fresh process each time."""
    found: Found = {}
    for number in range(rounds):
        for name in sorted(checkouts, reverse=number % 2 == 1):
            for role in ("compile", "memory"):
                for what, value in ask_alone(checkouts[name], role).items():
                    found.setdefault(what, {}).setdefault(name, []).append(value)
        print(f"fresh processes: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return found


def as_table(found: Found, sittings: Mapping[str, Sequence[int]]) -> str:
    """Returns a line for each thing that was measured.

    Args:
        sittings: by what was measured, how many rounds each sitting had; all were in one by default.
    """
    lines = [f"{'':46}{OLD:>10}{NEW:>10}   {NEW} / {OLD} (quartiles) [surely]"]
    for what, values in found.items():
        name, unit, scale = SHOWN[what]
        old, new = (f"{statistics.median(values[which]) * scale:.4g}" for which in (OLD, NEW))
        ratios = [after / before for before, after in zip(values[OLD], values[NEW], strict=True)]
        low, high = quartiles(ratios)
        least, most = interval(ratios, sittings.get(what, ()))
        surely = f"{least:.3f} to {most:.3f}" if math.isfinite(least) else "few rounds"
        ratio = f"{statistics.median(ratios):.3f} ({low:.3f} to {high:.3f}) [{surely}]"
        lines.append(f"{name + (f', {unit}' if unit else ''):46}{old:>10}{new:>10}   {ratio}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
