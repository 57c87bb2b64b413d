"""Asks a worker which modules it hosts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..link.places import find_worker
from ..owner.modules import ModuleStats, stats_here
from .exchange import ask

_ASKING: Final = 30.0  # seconds in which a worker has to answer


@dataclass(frozen=True)
class WorkerStats:
    """A worker's answer to `stats`."""

    worker: str  # its name; "" for this process
    modules: list[ModuleStats]  # the modules that it hosts, in the order in which they were added


def stats(where: str | None = None) -> WorkerStats:
    """Asks a worker which modules it hosts. The question runs Python on both workers, so do not ask it in every step.

    Args:
        where: "worker" or "rank:N". None asks this process itself; RPC need not be running.

    Returns:
        A `WorkerStats`: `.worker`, the worker's name, and `.modules`, a list of `ModuleStats`. Each of these has
        `.number`, which no other module of that worker ever gets; `.interface`, the interface's name; `.name`, under
        which the module is served, or None; `.device`; and `.holders`, the number of workers that hold stubs of it.
        `.holders` is None for a served module, which lives without stubs.

    Raises:
        NotInitializedError: RPC is not running in this process.
        PlaceError: there is no such worker.
        WireError: the worker is lost, or does not answer within 30 seconds.

    With a stub `layer` of a module on a worker "owner":

    >>> stats("owner").worker
    'owner'

    >>> "Layer" in {module.interface for module in stats("owner").modules}
    True
    """
    if where is None:
        return WorkerStats("", stats_here())
    worker = find_worker(where).worker.name
    return WorkerStats(worker, ask(worker, f"stats on {worker}", stats_here, timeout=_ASKING))
