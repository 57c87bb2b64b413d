"""Asks a worker what it hosts."""

from __future__ import annotations

from typing import Final

from .. import _torch
from ..link.places import find_worker
from ..owner.stats import WorkerStats, stats_here
from .messages.asking import ask

_ASKING: Final = 30.0  # seconds in which a worker has to answer


def stats(where: str | None = None) -> WorkerStats:
    """Asks a worker what it hosts. The question runs Python on both workers, so do not ask it in every step.

    Args:
        where: "worker" or "rank:N". None asks this process itself; RPC need not be running.

    Returns:
        A `WorkerStats`. Of the worker, it has `.worker`, its name, or "" if RPC is not running; `.host`, `.process` and
        `.since`, its machine's name, the process's id, and its start in seconds of Unix time; `.memory`, the bytes that
        it has of the machine's memory; `.running`, the calls that it runs now, this question included; and `.modules`,
        a list of `ModuleStats`.
        Each of these has `.number`, which no other module of that worker ever gets; `.interface`, the interface's name;
        `.name`, under which the module is served, or None; `.device`; `.since`, the Unix time from which it is there;
        `.bytes`, those of its parameters and buffers at that time; `.holders`, the number of workers that hold stubs of
        it, which is None for a served module: that lives without stubs; and `.calls`, a `CallStats` for each method, if
        the worker has counted since it hosts the module (`rpc_options(counts=True)`), and otherwise None.

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
        return stats_here(_torch.own_name())
    worker = find_worker(where).name
    return ask(worker, f"stats on {worker}", stats_here, worker, timeout=_ASKING)  # type: ignore[no-any-return]
