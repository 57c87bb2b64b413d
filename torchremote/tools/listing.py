"""The command `ls`: the workers of a group, and what they host."""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from ..caller.messages.asking import ask
from ..errors import TorchRemoteError, WireError
from ..owner.stats import ModuleStats, WorkerStats, stats_here
from .visiting import EXIT_LOST, add_address, add_json, seconds_above_0, visiting, workers_there

_log = logging.getLogger("torchremote")
_MOST_AT_ONCE: Final = 32  # workers that are asked


def add_commands(commands: Any) -> None:
    """Adds the command to the subparsers of the command line."""
    listing = commands.add_parser(
        "ls",
        help="list the workers of a group, and the modules that they host",
        description="Lists the workers of a group, and the modules that they host. SIZE is the memory that a worker's "
        "process has, and the parameters and buffers of a module. The exit status is 3 if a worker does not answer; "
        "the others are listed all the same.",
    )
    listing.add_argument(
        "--patience",
        type=seconds_above_0,
        default=5.0,
        metavar="SECONDS",
        help="for each worker's answer (default: %(default)g)",
    )
    add_address(listing)
    add_json(listing)
    listing.set_defaults(run=_list)


def _list(options: argparse.Namespace) -> int:
    with visiting(options):
        found = ask_all(options.patience)
    if options.json:
        print(json.dumps([as_fields(worker, stats) for worker, stats in found.items()]))
    else:
        print("\n".join(shown(rows_of(found))))
    return EXIT_LOST if None in found.values() else 0


def ask_all(patience: float) -> dict[str, WorkerStats | None]:
    """Asks all workers of this process's group at once, but for visitors. None: no answer in time."""
    names = workers_there()
    with ThreadPoolExecutor(_MOST_AT_ONCE) as threads:
        return dict(zip(names, threads.map(partial(_ask, patience=patience), names), strict=True))


def _ask(worker: str, patience: float) -> WorkerStats | None:
    try:
        answer: WorkerStats = ask(worker, f"ls on {worker}", stats_here, worker, timeout=patience)
    except WireError:
        return None
    except TorchRemoteError as error:
        _log.warning("torchremote: %s", error)
        return None
    return answer


def as_fields(worker: str, stats: WorkerStats | None) -> dict[str, Any]:
    """Returns what JSON says of a worker."""
    if stats is None:
        return {"worker": worker, "answers": False}
    modules = [{**vars(module), "calls": _counts_of(module)} for module in stats.modules]
    return {**vars(stats), "modules": modules, "answers": True}


def _counts_of(module: ModuleStats) -> dict[str, Any] | None:
    if module.calls is None:
        return None
    return {
        method: {
            "calls": counts.calls,
            "failures": counts.failures,
            "p50": counts.quantile(0.5),
            "p99": counts.quantile(0.99),
        }
        for method, counts in module.calls.items()
    }


COLUMNS: Final = ("WORKER", "MODULE", "INTERFACE", "DEVICE", "SIZE", "SINCE")


def rows_of(found: dict[str, WorkerStats | None]) -> list[Sequence[str]]:
    """Makes the rows of a table: a worker, and below it its modules."""
    rows: list[Sequence[str]] = [COLUMNS]
    for worker, stats in found.items():
        if stats is None:
            rows.append((worker, "(does not answer)", "", "", "", ""))
            continue
        since, process = when(stats.since), f"(process {stats.process} on {stats.host})"
        rows.append((worker, process, "", "", size(stats.memory), since))
        for module in stats.modules:
            name = module.name or f"(held by {module.holders})"
            rows.append(("", name, module.interface, module.device, size(module.bytes), when(module.since)))
    return rows


def shown(rows: Sequence[Sequence[str]]) -> list[str]:
    """Writes rows in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    pad: Callable[[str, int], str] = str.ljust
    return ["  ".join(map(pad, row, widths)).rstrip() for row in rows]


def when(seconds: float) -> str:
    """Writes a point in time: the time of today, or else also the day."""
    then = time.localtime(seconds)
    today = then[:3] == time.localtime()[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M", then)


def size(count: int) -> str:
    """Writes a number of bytes."""
    amount, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        units.pop(0)
    return f"{amount:.0f} {units[0]}" if units[0] == "B" or amount >= 100 else f"{amount:.1f} {units[0]}"
