"""Computes what methods did between two looks at what workers count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ..owner.running.counts import CallStats
from ..owner.stats import ModuleStats, WorkerStats
from .listing import size

_NOTHING: Final = CallStats(0, {})


@dataclass(frozen=True)
class Row:
    """Tells what one method of a module did in an interval; `method` None: the module's calls are not counted."""

    worker: str
    module: str
    interface: str
    device: str
    bytes: int
    method: str | None = None
    calls_a_second: float = 0.0
    p50: float | None = None  # seconds, of the calls of the interval
    p99: float | None = None
    failures: int = 0  # all that there ever were


def rows_between(
    before: Mapping[str, WorkerStats | None], found: Mapping[str, WorkerStats | None], seconds: float
) -> list[Row]:
    """Makes the rows of an interval."""
    rows: list[Row] = []
    for worker, stats in found.items():
        if stats is None:
            continue
        last = before.get(worker)
        known: Mapping[int, Mapping[str, CallStats] | None] = {}
        if last is not None and last.process == stats.process:
            known = {module.number: module.calls for module in last.modules}
        for module in stats.modules:
            rows += _rows_of(worker, module, known.get(module.number), seconds)
    return rows


def _rows_of(worker: str, module: ModuleStats, before: Mapping[str, CallStats] | None, seconds: float) -> Iterator[Row]:
    about = (worker, module.name or f"#{module.number}", module.interface, module.device, module.bytes)
    if module.calls is None:
        yield Row(*about)
        return
    for method, calls in module.calls.items():
        new = calls.after((before or {}).get(method, _NOTHING))
        yield Row(*about, method, new.calls / seconds, new.quantile(0.5), new.quantile(0.99), calls.failures)


def duration(seconds: float | None) -> str:
    """Writes how long something took."""
    if seconds is None:
        return ""
    for unit, factor in (("us", 1e6), ("ms", 1e3)):
        if seconds * factor < 1000:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def cells(row: Row) -> tuple[str, ...]:
    """Writes a row, without its worker."""
    called = row.module if row.method is None else f"{row.module}.{row.method}"
    about = (called, row.interface, row.device, size(row.bytes))
    if row.method is None:
        return (*about, "not counted", "", "", "")
    return (*about, f"{row.calls_a_second:.4g}", duration(row.p50), duration(row.p99), str(row.failures))
