"""Settings of torch's RPC agent, as measured by benchmarks/settings.py.

What torch has by default is as fast as anything: neither the number of threads nor their order of transports makes a
difference that can be told from noise, but for TCP alone, which costs twice as much on one machine as shared memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch.distributed.rpc import TensorPipeRpcBackendOptions

THREADS: Final = 16


def rpc_options(
    *,
    workers: Sequence[str] = (),
    devices: Sequence[str | int | torch.device] = (),
    threads: int = THREADS,
    **options: Any,
) -> TensorPipeRpcBackendOptions:
    """Options for `torch.distributed.rpc.init_rpc(..., rpc_backend_options=)`, for remote modules.

    Args:
        workers: the names of all other workers that tensors on `devices` are sent to.
        devices: accelerators of this machine. Tensors go from each to the one of the same index on every worker, and
            back; without them, tensors cross by way of the CPU.
        threads: that answer calls. A call that runs holds one; one that waits for another remote module holds none.
        **options: what `TensorPipeRpcBackendOptions` takes besides, such as `init_method` and `rpc_timeout` (seconds).

    Raises:
        ValueError: devices without workers, a device that is no accelerator, or one name where a list is wanted.

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
    built = TensorPipeRpcBackendOptions(num_worker_threads=threads, **options)
    for worker in workers:
        if mapped:
            built.set_device_map(worker, {device: device for device in mapped})
    return built
