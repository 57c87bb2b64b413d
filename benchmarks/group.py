"""A group of processes on this machine: one measures, the others own modules or make calls of their own."""

from __future__ import annotations

import os
import pickle
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed.rpc as rpc
import torch.multiprocessing as mp

import torchremote
from torchremote import native as native_part

Found = TypeVar("Found")


class NoAccelerator(Exception):
    """Raised where a group needs an accelerator."""


def in_group(
    measure: Callable[[bool], Found],
    quick: bool,
    native: bool,
    others: tuple[str, ...] = ("owner",),
    options: dict[str, Any] | None = None,
    mapped: tuple[str, ...] = (),
) -> Found:
    """Returns what `measure(quick)` returns in the worker "caller" of a group that also has `others`.

    Args:
        native: whether the processes use the native part, which is built if it is not there.
        options: what `torchremote.rpc_options` is called with.
        mapped: those of `others` to which the worker "caller" has a device map.

    Raises:
        NativeError: it cannot be built here.
        NoAccelerator: there is none to map.
    """
    if mapped and not torch.accelerator.is_available():
        raise NoAccelerator("no accelerator on this machine")
    if native:
        native_part.build()
    os.environ[native_part.SWITCH] = str(int(native))  # for the processes, which import torchremote anew
    with tempfile.TemporaryDirectory(prefix="torchremote-bench-") as folder:
        mp.spawn(_process, args=(measure, quick, others, options or {}, mapped, folder), nprocs=1 + len(others))
        return pickle.loads((Path(folder) / "found").read_bytes())  # type: ignore[no-any-return]


def _process(
    rank: int,
    measure: Callable[[bool], object],
    quick: bool,
    others: tuple[str, ...],
    given: dict[str, Any],
    mapped: tuple[str, ...],
    folder: str,
) -> None:
    quiet()
    if rank == 0 and mapped:
        given = {**given, "workers": mapped, "devices": [0]}
    options = torchremote.rpc_options(init_method=f"file://{folder}/store", rpc_timeout=300, **given)
    rpc.init_rpc(("caller", *others)[rank], rank=rank, world_size=1 + len(others), rpc_backend_options=options)
    if rank == 0:
        (Path(folder) / "found").write_bytes(pickle.dumps(measure(quick)))
    rpc.shutdown()


def quiet() -> None:
    """Keeps torch's notices about RPC and TorchScript out of the output, and has one thread of the process compute."""
    warnings.filterwarnings("ignore", module="torch")
    warnings.filterwarnings("ignore", message=".*torch.jit.*deprecated.*")
    torch.set_num_threads(1)
