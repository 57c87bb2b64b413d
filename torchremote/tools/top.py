"""The command `top`: what the workers of a group do, live."""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any

from ..errors import TorchRemoteError
from ..link.timeouts import LONGEST_TIMEOUT
from ..owner.stats import WorkerStats
from .listing import ask_all
from .rates import Row, rows_between
from .visiting import add_address, add_json, seconds_above_0, visiting


def add_commands(commands: Any) -> None:
    """Adds the command to the subparsers of the command line."""
    top = commands.add_parser(
        "top",
        help="show live how often modules are called, and how long calls take",
        description="Shows live, for each worker, its calls in flight and its memory; and for each method of its "
        "modules the calls a second, the median and the 99th percentile of how long they ran, and how many have "
        "failed. Workers of `torchremote serve` count that; others with rpc_options(counts=True). Ctrl-C ends it.",
    )
    top.add_argument("--interval", type=seconds_above_0, default=1.0, metavar="SECONDS", help="(default: %(default)g)")
    top.add_argument("--rounds", type=_count, metavar="N", help="end after so many intervals")
    add_address(top)
    add_json(top)
    top.set_defaults(run=_top)


def _count(text: str) -> int:
    """Reads a number of intervals for argparse."""
    if (number := int(text)) < 0:
        raise ValueError
    return number


_count.__name__ = "number of intervals"


def _top(options: argparse.Namespace) -> None:
    draw = nullcontext(_print_json) if options.json else _drawing()
    with visiting(options), draw as show:
        try:
            for found, rows in itertools.islice(_looks(options.interval), options.rounds):
                show(found, rows)
        except KeyboardInterrupt:
            return


def _looks(interval: float) -> Iterator[tuple[Mapping[str, WorkerStats | None], list[Row]]]:
    """Yields what workers say, and what they did since the last time, in every interval."""
    patience = min(interval * 2, LONGEST_TIMEOUT)
    before, then = ask_all(patience), time.monotonic()
    while True:
        time.sleep(interval)
        found, now = ask_all(patience), time.monotonic()
        yield found, rows_between(before, found, now - then)
        before, then = found, now


# -- showing


def _print_json(found: Mapping[str, WorkerStats | None], rows: list[Row]) -> None:
    """Prints an object a line."""
    workers = [
        {"worker": worker, "answers": False}
        if stats is None
        else {"worker": worker, "answers": True, "running": stats.running - 1, "memory": stats.memory}
        for worker, stats in found.items()
    ]
    print(json.dumps({"time": time.time(), "workers": workers, "methods": [vars(row) for row in rows]}), flush=True)


def _drawing() -> Any:
    """Returns what draws on the terminal."""
    try:
        from .drawn import drawing
    except ImportError as error:
        raise TorchRemoteError(f"top needs more: pip install 'torchremote[top]', or use --json ({error})") from error
    return drawing()
