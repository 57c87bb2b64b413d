"""Asks torch's RPC agent, and changes how its pickler sends an object."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.rpc import api as _api

if TYPE_CHECKING:
    from torch._C._distributed_rpc import PyRRef, WorkerInfo
else:  # present only where torch is built with RPC
    from torch.distributed.rpc import PyRRef, WorkerInfo

__all__ = ["PyRRef", "WorkerInfo"]


RemoteDevice = torch.distributed._remote_device
"""Parses a `remote_device` as torch's RemoteModule does, with the same errors."""


def check_on_unwrap(future: Any, check: Callable[[object], None]) -> None:
    """Makes the future call `check` with its value in every `wait`. An exception of `check` is raised from `wait`."""
    future._set_unwrap_func(check)


def send_as(cls: type[Any], reduce: Callable[[Any], str | tuple[Any, ...]]) -> None:
    """Makes RPC's pickler call `reduce` for objects of exactly `cls`. `reduce` returns the same as `__reduce__`."""
    # torch's own function keeps the first `reduce` of a class, and torch.distributed.nn sets one for scripted modules.
    # The dict is exchanged, not changed, because other threads may be reading it.
    pickler = _api._internal_rpc_pickler
    pickler._class_reducer_dict = {**pickler._class_reducer_dict, cls: reduce}


def rpc_running() -> bool:
    return bool(_api._is_current_rpc_agent_set())


def own_id() -> int | None:
    """Returns this worker's id, or None if RPC is not running."""
    try:
        return int(_api._get_current_rpc_agent().get_worker_info().id)
    except RuntimeError:
        return None


def worker_infos() -> list[WorkerInfo]:
    """Lists the workers of this process's group."""
    return list(_api._get_current_rpc_agent().get_worker_infos())


def mapped_devices(worker: WorkerInfo) -> list[torch.device]:
    """Lists the devices, beside the CPU, from which this process can send tensors to `worker`."""
    return list(_api._get_current_rpc_agent()._get_device_map(worker))
