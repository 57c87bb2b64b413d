"""Settings of torch's RPC agent, as measured by benchmarks/settings.py.

Tensors on the CPU go in the stream of messages. By default, torch sends each through a channel of its own: a call takes
a tenth to a fifth longer with the one it has on one machine, and twice as long with the one it has between two, which
is the faster one by a fifth for tensors of tens of MiB. Fewer threads are faster by less than a tenth, and may all be
waiting.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch.distributed.rpc import TensorPipeRpcBackendOptions

THREADS: Final = 16
CHANNELS: Final = ("basic", "cuda_xth", "cuda_ipc", "cuda_gdr", "cuda_basic")
"""How tensors travel, in torch's own order, without the two that it prefers to the first. The others are for CUDA."""


def rpc_options(
    *,
    workers: Sequence[str] = (),
    devices: Sequence[str | int | torch.device] = (),
    threads: int = THREADS,
    shared_memory: bool = True,
    **options: Any,
) -> TensorPipeRpcBackendOptions:
    """Options for `torch.distributed.rpc.init_rpc(..., rpc_backend_options=)`, for remote modules.

    Args:
        workers: the names of all other workers that tensors on `devices` are sent to.
        devices: accelerators of this machine. Tensors go from each to the one of the same index on every worker, and
            back; without them, tensors cross by way of the CPU.
        threads: that answer calls. A call that runs holds one; one that waits for another remote module holds none,
            but in Python.
        shared_memory: between workers of one machine. Calls take half as long as over TCP, for which torch keeps a core
            of each worker busy, looking for messages; without it, a worker that waits costs nothing.
        **options: what `TensorPipeRpcBackendOptions` takes besides, such as `init_method` and `rpc_timeout` (seconds).
            With `_channels=None`, tensors travel as torch would have them: a call takes longer, and large tensors cross
            the network faster.

    Raises:
        ValueError: devices without workers, a device that is no accelerator, one name where a list is wanted,
            or transports beside shared_memory=False.

    >>> options = rpc_options(rpc_timeout=120)
    >>> options.rpc_timeout
    120.0
    """
    for what, given in (("workers", workers), ("devices", devices)):
        if isinstance(given, str):
            raise ValueError(f"{what}={given!r}: a list is wanted, as in {what}=[{given!r}]")
    mapped = [torch.device("cuda", device) if isinstance(device, int) else torch.device(device) for device in devices]
    if any(device.type == "cpu" for device in mapped):
        raise ValueError("devices: tensors on the CPU cross without being mapped; name accelerators alone")
    if mapped and not workers:
        raise ValueError("devices are mapped to workers; name these, too: rpc_options(workers=[...], devices=[...])")
    chosen: dict[str, Any] = {"_channels": channels()}
    if not shared_memory:
        if "_transports" in options:
            raise ValueError("shared_memory=False chooses the transports; give only one of it and _transports")
        chosen["_transports"] = ["uv"]
    built = TensorPipeRpcBackendOptions(num_worker_threads=threads, **{**chosen, **options})
    for worker in workers:
        if mapped:
            built.set_device_map(worker, {device: device for device in mapped})
    return built


def channels() -> list[str]:
    """Of `CHANNELS`, those that this build of torch has."""
    return [channel for channel in CHANNELS if _is_known(channel)]


@functools.cache
def _is_known(channel: str) -> bool:
    try:
        TensorPipeRpcBackendOptions(_channels=[channel])
    except RuntimeError:
        return False
    return True
