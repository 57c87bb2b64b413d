"""The form without an interface: whatever arguments can be pickled, through Python on both sides.

It has the functions that a compiled interface has, and torch's RemoteModule installs. There is no signature to compile,
so these are written, and not generated.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed.rpc as rpc
from torch.nn.utils.rnn import PackedSequence

from . import _torch


def _remote_forward(
    module_rref: _torch.PyRRef[Any], device: str, is_device_map_set: bool, /, *args: Any, **kwargs: Any
) -> Any:
    """Runs on the owner. To an accelerator, tensors move in, and out again unless the caller has a device map."""
    module = module_rref.local_value()
    there = torch.device(device)
    if there.type == "cpu":
        return module.forward(*args, **kwargs)
    args, kwargs = _moved((args, kwargs), there)
    result = module.forward(*args, **kwargs)
    return result if is_device_map_set else _moved(result, torch.device("cpu"))


def _moved(value: Any, device: torch.device) -> Any:
    """`value` with every tensor in it, however deep in containers, on `device`."""

    def move(leaf: Any) -> Any:
        return leaf.to(device) if isinstance(leaf, (torch.Tensor, PackedSequence)) else leaf  # type: ignore[arg-type]

    # A NamedTuple with a tensor that has to stay on the CPU, which only itself knows.
    return _torch.map_leaves(move, value, is_leaf=lambda part: isinstance(part, PackedSequence))


def forward_async(self: Any, /, *args: Any, **kwargs: Any) -> torch.futures.Future[Any]:
    """Calls the remote module's `forward`. `self` has `module_rref`, `device` and `is_device_map_set`."""
    rref = self.module_rref
    called: torch.futures.Future[Any] = rpc.rpc_async(
        rref.owner(), _remote_forward, (rref, self.device, self.is_device_map_set, *args), kwargs
    )
    return called


def forward(self: Any, /, *args: Any, **kwargs: Any) -> Any:
    """`forward_async`, and waits."""
    return forward_async(self, *args, **kwargs).wait()


_generated_methods = [forward_async, forward]
