"""What a worker hosts, asked for by any worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..link.places import find_worker
from ..owner.modules import ModuleStats, stats_here
from .exchange import ask

_ASKING: Final = 30.0  # seconds that a worker has to answer


@dataclass(frozen=True)
class WorkerStats:
    """What a worker says of itself."""

    worker: str  # its name; "" for this process
    modules: list[ModuleStats]  # that it hosts, in the order in which they were added


def stats(where: str | None = None) -> WorkerStats:
    """Asks a worker what it hosts. This goes through Python on both sides, and is not for the data plane.

    Args:
        where: "worker" or "rank:N"; None: this process, in which RPC need not be running.

    Returns:
        `.modules`, of each its `.number`, which no other module of that worker gets, `.interface`, served `.name` or
        None, `.device`, and `.holders`: the number of workers that hold stubs of it, or None for a served module, which
        lives without stubs.

    Raises:
        NotInitializedError: RPC is not running in this process.
        PlaceError: no such worker.
        WireError: the worker is lost, or takes longer than 30 seconds.

    >>> stats().worker
    ''
    """
    if where is None:
        return WorkerStats("", stats_here())
    worker = find_worker(where).worker.name
    return WorkerStats(worker, ask(worker, f"stats on {worker}", stats_here, timeout=_ASKING))
