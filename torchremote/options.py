"""Settings of torch's RPC agent, as measured by benchmarks/settings.py.

TensorPipe sends tensors through one channel a connection, whatever their size. "basic" puts them into the stream of
messages, which is fastest for small ones. With "cma" the receiver reads the sender's memory, which on some machines is
fastest for large ones. torch prefers "cma", and between machines "mpt_uv": several TCP connections, through which small
tensors take two to five times as long.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, Final

import torch
from torch.distributed.rpc import TensorPipeRpcBackendOptions

from . import _torch, native

THREADS: Final = 16
CHANNELS: Final = ("basic", "cuda_xth", "cuda_ipc", "cuda_gdr", "cuda_basic")
"""The channels for small tensors: torch's own, without the two that it prefers to "basic". The others are for CUDA."""

LARGE_TENSOR_CHANNELS: Final = ("cma", *CHANNELS)
"""The channels for large tensors. Where the kernel lets no worker read another's memory, the next one is taken."""

_PASSED_ON: Final = frozenset({"rpc_timeout", "init_method", "device_maps", "_transports", "_channels"})
"""Arguments of `TensorPipeRpcBackendOptions` that are passed on under its own names."""


def rpc_options(
    *,
    workers: Sequence[str] = (),
    devices: Sequence[str | int | torch.device] = (),
    threads: int = THREADS,
    shared_memory: bool = True,
    large_tensors: bool = False,
    in_turn: bool = False,
    counts: bool = False,
    intraop_threads: int | None = None,
    **options: Any,
) -> TensorPipeRpcBackendOptions:
    """Builds options for `torch.distributed.rpc.init_rpc(..., rpc_backend_options=)`, with which calls are fast.

    Args:
        workers: the names of all other workers that tensors on `devices` are sent to.
        devices: accelerators of this machine. Tensors go from each to the one of the same index on every worker, and
            back; without them, tensors cross by way of the CPU.
        threads: how many threads answer calls. A call that runs holds one; a call that waits for another remote module
            holds one only if it waits in Python.
        shared_memory: True sends messages between workers of one machine through shared memory. A call takes about half
            as long as over TCP, but torch keeps a core of each worker busy, looking for messages. False uses TCP, and a
            worker that waits costs nothing.
        large_tensors: True is for workers of one machine whose tensors mostly have more than 1 MiB: the receiver copies
            a tensor out of the sender's memory. What that gives depends on the machine, so measure it: `python -m
            benchmarks settings`. Over TCP, a call with 16 MiB may take half the time, and through shared memory as much
            as before; one with 4 KiB takes up to a quarter more. It changes nothing between machines, nor for tensors
            on accelerators. Both workers have to have it; otherwise tensors travel as with False.
        in_turn: True lets this process run calls in turn, for modules that change themselves, and gather them. It
            gives torch one thread for what `torch.jit.fork` starts, and for what scripted code goes on with after it
            waited. torch takes that setting before the first fork or wait, and once. False changes nothing: a process
            that hosts such a module before its first fork or wait gets the setting then. With the native part, any
            process can do both, and neither True nor False changes anything.
        counts: True counts the calls of the modules that this process hosts from then on, and how long they take, for
            `stats`. A small call takes a few percent longer then. Once on, it stays on.
        intraop_threads: how many threads an operator may use, as `torch.set_num_threads` sets it, which is called here.
            It reaches the threads that answer calls only before they have computed anything. None leaves it as it is:
            torch's default is a thread for each core. Each thread that answers calls then has a team of its own.
        **options: what else `TensorPipeRpcBackendOptions` takes, such as `init_method` and `rpc_timeout`. That is RPC's
            default timeout in seconds, 60 if it is not given: for calls of stubs that have no timeout of their own, and
            for `create`, `connect` and `withdraw`. `_channels=None` takes torch's own channels, which between machines
            are slower for small tensors; for tensors of many MiB they may be faster, which depends on the network.

    Raises:
        TypeError: an argument is not known.
        RuntimeError: `in_turn` is True, and torch's threads for forks have started already, or were set to more.
        ValueError: `threads` or `intraop_threads` is no positive int, `rpc_timeout` is no number of seconds,
            `init_method` is no string, `devices` are given without `workers` or are not CUDA's, a string stands where a
            list is wanted, `_transports` beside shared_memory=False, or `_channels` beside large_tensors=True.

    >>> options = rpc_options(rpc_timeout=120)
    >>> options.rpc_timeout
    120.0
    >>> images = rpc_options(large_tensors=True)  # give it to all workers of the machine
    """
    if unknown := sorted(options.keys() - _PASSED_ON):
        has = [*inspect.signature(rpc_options).parameters][:-1] + sorted(_PASSED_ON)
        instead = "threads= sets that" if "num_worker_threads" in unknown else f"it has {', '.join(has)}"
        raise TypeError(f"rpc_options has no argument {', '.join(unknown)}; {instead}")
    for what, given in (("workers", workers), ("devices", devices)):
        if isinstance(given, str):
            raise ValueError(f"{what}={given!r}: a list is wanted, as in {what}=[{given!r}]")
    mapped = [torch.device("cuda", device) if isinstance(device, int) else torch.device(device) for device in devices]
    if others := sorted({device.type for device in mapped} - {"cuda"}):
        raise ValueError(f"devices: torch maps those of CUDA alone; tensors on {others[0]} cross without a map")
    if mapped and not workers:
        raise ValueError("devices are mapped to workers; name these, too: rpc_options(workers=[...], devices=[...])")
    if large_tensors and "_channels" in options:
        raise ValueError("large_tensors=True chooses the channels; give only one of it and _channels")
    if not shared_memory and "_transports" in options:
        raise ValueError("shared_memory=False chooses the transports; give only one of it and _transports")
    if not is_seconds(seconds := options.get("rpc_timeout", 0)):
        raise ValueError(f"rpc_timeout={seconds!r}: seconds, or 0 for no limit; leave it out for torch's 60")
    if not isinstance(address := options.get("init_method", ""), str):
        raise ValueError(f"init_method={address!r}: a text is wanted, as in 'tcp://host:29500'")
    _check_number("threads", threads)
    if intraop_threads is not None:
        _check_number("intraop_threads", intraop_threads)
    chosen: dict[str, Any] = {"_channels": channels(LARGE_TENSOR_CHANNELS if large_tensors else CHANNELS)}
    if not shared_memory:
        chosen["_transports"] = ["uv"]
    if "rpc_timeout" in options:
        chosen["rpc_timeout"] = whole_milliseconds(options.pop("rpc_timeout"))
    built = TensorPipeRpcBackendOptions(num_worker_threads=threads, **{**chosen, **options})
    for worker in workers:
        if mapped:
            built.set_device_map(worker, {device: device for device in mapped})
    # Only now, when nothing else can be wrong, is this process changed.
    if in_turn and not native.available() and not _torch.use_one_thread_for_forks():
        raise RuntimeError(
            f"in_turn=True: this process has {torch.get_num_interop_threads()} threads for forks, and torch does not "
            "let them be changed after the first use; call rpc_options before anything scripted forks or waits"
        )
    if intraop_threads is not None:
        torch.set_num_threads(intraop_threads)
    if counts:
        _torch.start_counting()
    return built


def _check_number(what: str, given: object) -> None:
    """Raises ValueError if `given` is no positive number of threads."""
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise ValueError(f"{what}={given!r}: a positive number of threads is wanted")


def is_seconds(given: object) -> bool:
    """Says whether `given` is a number of seconds, and no infinite one."""
    return not isinstance(given, bool) and isinstance(given, Real) and not given < 0 and given < math.inf


LONGEST_TIMEOUT: Final = 2_147_483.0
"""Seconds. torch counts milliseconds in 32 bits; with more, a call would be over at once."""


def whole_milliseconds(seconds: float) -> float:
    """Returns a timeout as torch can have it: in whole milliseconds, rounded up, and not too long.

    torch drops what is less than a millisecond, and takes 0 for no limit.
    """
    milliseconds = round(min(seconds, LONGEST_TIMEOUT) * 1000, 6)  # so that 0.3 s, which is a bit more, is 300
    return max(math.ceil(milliseconds), int(seconds > 0)) / 1000


def channels(wanted: Sequence[str] = CHANNELS) -> list[str]:
    """Returns those of the wanted channels that this build of torch has, in the same order."""
    return [channel for channel in wanted if _is_known(channel)]


@functools.cache
def _is_known(channel: str) -> bool:
    try:
        TensorPipeRpcBackendOptions(_channels=[channel])
    except RuntimeError:
        return False
    return True
