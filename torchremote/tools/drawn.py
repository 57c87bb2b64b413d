"""Draws what `torchremote top` shows, with rich."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.live import Live
from rich.table import Table

from ..owner.stats import WorkerStats
from .listing import size
from .rates import Row, cells

_HEADINGS = ("worker", "method", "interface", "device", "size", "calls/s", "p50", "p99", "failures")
_NUMBERS = 4  # the first column of numbers


@contextmanager
def drawing() -> Iterator[Callable[[Mapping[str, WorkerStats | None], Sequence[Row]], None]]:
    """Yields what draws a table anew in its place. On what is no terminal, only the last one is printed."""
    with Live(auto_refresh=False) as live:
        yield lambda found, rows: live.update(table_of(found, rows), refresh=True)
    if not live.console.is_terminal:
        live.console.line()  # it prints none behind the last table


def table_of(found: Mapping[str, WorkerStats | None], rows: Sequence[Row]) -> Table:
    """Makes the table: below each worker its methods."""
    table = Table(box=None, header_style="bold")
    for number, heading in enumerate(_HEADINGS):
        table.add_column(heading, justify="right" if number >= _NUMBERS else "left", no_wrap=True)
    for worker, stats in found.items():
        if stats is None:
            table.add_row(worker, "does not answer", style="red")
            continue
        about = f"{stats.running - 1} in flight"  # but for the question
        table.add_row(worker, about, "", "", size(stats.memory), style="bold")
        for row in rows:
            if row.worker == worker:
                table.add_row("", *cells(row))
    return table
