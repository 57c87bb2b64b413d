"""Finds the workers and devices that a user's `where` names."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

import torch

from .. import _torch
from .._torch import WorkerInfo
from ..errors import AbsentWorkerError, NotInitializedError, PlaceError
from ..jit.read.shown import repr_of
from .failures import check_not_forked
from .words import first_line

_FORMS = "'worker', 'worker/device', 'rank:N' or 'rank:N/device', such as 'ps0/cuda:0' or 'rank:1/cpu'"
CPU: Final = torch.device("cpu")


@dataclass(frozen=True)
class Place:
    """A worker, and a device on it."""

    worker: WorkerInfo
    device: str | None  # None: `where` named no device


@dataclass(frozen=True)
class Words:
    """Says what an error about a place begins with, and what to do if the group has others."""

    said: str
    name_one: str = "name one of them"


def find_place(where: str, words: Words | None = None) -> Place:
    """Finds the worker and device that `where` names in this process's RPC group.

    Args:
        words: those for the errors, if the user gave it otherwise than as an argument `where`.

    Raises:
        NotInitializedError: RPC is not running here.
        PlaceError: `where` is malformed, or names no worker of the group, or no device. AbsentWorkerError, which is
            one: the worker may still join.
    """
    words = words or _words(where)
    if not isinstance(where, str):
        raise PlaceError(f"{words.said}: not a string; write {_FORMS}")
    check_not_forked(f"{words.said}: ")
    if not _torch.rpc_running():
        raise _not_running(words)
    worker, device = _read_place(where, words)
    try:
        return Place(_find_worker(worker, words), device or None)
    except RuntimeError:
        if _torch.rpc_running():
            raise
        raise _not_running(words) from None  # another thread ended it just now


def _words(where: object) -> Words:
    return Words(f"where={repr_of(where)}")


def _not_running(words: Words) -> NotInitializedError:
    return NotInitializedError(
        f"{words.said}: RPC is not running in this process; call torchremote.join(name), or "
        "torch.distributed.rpc.init_rpc(...), first"
    )


def _read_place(where: str, words: Words) -> tuple[str, str]:
    """Splits `where` into a worker and a device, which may be empty. Raises PlaceError if it is malformed."""
    worker, slash, device = where.partition("/")
    if not worker or (slash and not device):
        raise PlaceError(f"{words.said}: cannot be read; write {_FORMS}")
    if device:
        try:
            torch.device(device)
        except RuntimeError as error:
            raise PlaceError(f"{words.said}: {device!r} is no device: {first_line(error)}") from None
    return worker, device


def find_worker(where: str, words: Words | None = None) -> WorkerInfo:
    """Finds the worker that `where` names. Raises PlaceError if `where` also names a device. `words`: as above."""
    check_worker(where, words)
    return find_place(where, words).worker


def check_worker(where: str, words: Words | None = None) -> None:
    """Raises PlaceError if `where` cannot name a worker alone. The worker need not be there."""
    words = words or _words(where)
    if not isinstance(where, str):
        raise PlaceError(f"{words.said}: not a string; write 'worker' or 'rank:N'")
    worker, device = _read_place(where, words)
    if device:
        raise PlaceError(f"{words.said}: a worker is wanted, without a device; name the worker alone: {worker!r}")


def _find_worker(name: str, words: Words) -> WorkerInfo:
    """Finds a worker by name or by "rank:N", or raises PlaceError."""
    workers = _torch.worker_infos()
    scheme, colon, rank = name.partition(":")
    for worker in workers:
        if (scheme == "rank" and rank == str(worker.id)) if colon else worker.name == name:
            return worker
    known = ", ".join(f"{worker.name} (rank:{worker.id})" for worker in sorted(workers, key=lambda worker: worker.id))
    said = f"{words.said}: there is no worker {name!r}; the group has {known}"
    if not _torch.workers_may_join():
        raise PlaceError(f"{said}, and nobody else can join; {words.name_one}")
    if colon:
        raise PlaceError(f"{said}; {words.name_one}")
    raise AbsentWorkerError(f"{said}; {words.name_one}, or start {name!r} first")


def check_device(device: str) -> torch.device:
    """Finds a device of this process.

    Raises:
        PlaceError: there is no such device here, or no tensor can live on it.
    """
    try:
        found = torch.empty(0, device=torch.device(device)).device  # with its index
    except Exception as error:  # a backend that is not there may raise anything
        has = f"not on this worker, which has {_devices()}; name one of these"
        raise PlaceError(f"device {device!r}: {has} ({first_line(error):.200})") from error
    if found.type == "meta":
        raise PlaceError("device 'meta': tensors there have no data to compute with; name a real device")
    return found


def _devices() -> str:
    """Lists the devices of this process."""
    kind = torch.accelerator.current_accelerator()
    count = torch.accelerator.device_count() if kind is not None else 0
    return ", ".join(["cpu", *(f"{kind}:{number}" for number in range(count))])


def device_of(module: torch.nn.Module, otherwise: torch.device = CPU) -> torch.device:
    """Returns the device of the parameters and buffers of `module`, or `otherwise` if it has none."""
    own = (torch.nn.Module.named_parameters(module), torch.nn.Module.named_buffers(module))  # a stub has no others
    for _, tensor in itertools.chain(*own):
        return tensor.device
    return otherwise
