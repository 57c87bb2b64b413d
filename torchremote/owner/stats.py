"""Says what this process hosts, for whoever asks: see caller/stats.py."""

from __future__ import annotations

import os
import pathlib
import socket
from dataclasses import dataclass

from .. import _torch
from .lives import leases
from .modules import Entry, entries_here
from .running.counts import CallStats, read_counts
from .running.tables import LOCK


@dataclass(frozen=True)
class ModuleStats:
    """Describes a module that a worker hosts."""

    number: int  # counts all modules that the worker has ever hosted, so no other one gets it
    interface: str  # the name of the interface with which it was hosted
    name: str | None  # under which it is served
    device: str
    holders: int | None  # how many workers hold stubs of it; None: it is served, and lives without stubs
    since: float  # when it was hosted, or exchanged for another, in seconds of Unix time
    bytes: int  # of its parameters and buffers, when it was hosted or exchanged
    calls: dict[str, CallStats] | None  # of each method; None: this worker does not count calls


@dataclass(frozen=True)
class WorkerStats:
    """A worker's answer to `stats`."""

    worker: str  # its name; "" if RPC is not running there
    modules: list[ModuleStats]  # the modules that it hosts, in the order in which they were added
    host: str  # the name of its machine
    process: int  # the id of its process
    since: float  # when its process started, in seconds of Unix time
    memory: int  # bytes of its process that are in the machine's memory
    running: int  # calls that it runs now for others, whatever they call, this question included


def stats_here(worker: str) -> WorkerStats:
    """Describes this process. `worker`: its name."""
    with LOCK:
        entries = entries_here()
        holders = [leases.count_holders(entry.handles.values()) if entry.name is None else None for entry in entries]
        hosted = [(entry.hosting, _methods_of(entry)) for entry in entries]
    described = []
    for entry, held, (hosting, methods) in zip(entries, holders, hosted, strict=True):
        interface = entry.interface.name
        calls = None if entry.counts is None else {one: read_counts(entry.counts, one) for one in methods}
        described.append(
            ModuleStats(
                entry.number, interface, entry.name, str(hosting.device), held, hosting.since, hosting.bytes, calls
            )
        )
    running = _torch.running_calls()
    return WorkerStats(worker, described, socket.gethostname(), os.getpid(), _started(), _resident(), running)


def _methods_of(entry: Entry) -> list[str]:
    """Lists the methods that stubs of any interface call. Called under LOCK."""
    return sorted({method.name for table in entry.handles for method in table.contract.interface.methods})


def _started() -> float:
    """Returns when this process started. The kernel counts from the machine's start, in ticks."""
    fields = pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    lines = pathlib.Path("/proc/stat").read_text().splitlines()
    machine = next(int(line.split()[1]) for line in lines if line.startswith("btime "))
    return machine + int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _resident() -> int:
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
