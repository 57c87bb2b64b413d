"""Waits for an accelerator where a call that runs in turn goes from one thread to another.

A process compiles this text once, for all interfaces.

Note [Calls in turn on an accelerator]
    An accelerator does its work later, in the order of a queue: a stream of CUDA's. With a device map, each call has a
    stream of its own. Its tensors are copied in that, and its result is sent in it. RPC has the thread that brings the
    call use it. But a call that runs in turn changes threads, and other threads use the default stream, which does not
    wait for the others. So with a device map:

    * The thread that brings a call waits until its tensors are there, before another one has them.
    * A strand of the native part never runs such a call in the thread that brings it. So all work of a module is in the
      default stream, and reads what came before.
    * A call ends when the accelerator has done its work. Otherwise its result would be sent before it is there, and the
      memory of its arguments would go back to their stream while they are read.

    Without a device map, tensors arrive on the CPU, and all threads use the default stream. To move a result to the CPU
    waits for it.
"""

from __future__ import annotations

from typing import Any, List

import torch
from torch import Tensor

from .tensors import HAS_DEVICE_MAP


def has_device_map(flags: int) -> bool:
    return flags & HAS_DEVICE_MAP != 0


def wait_for(device: torch.device) -> None:
    # Waits until a device has done what this thread gave it: to read a value waits for all before it. TorchScript
    # leaves out what has no effect, even if it waits. So this depends on the value.
    if device.type != "cpu" and bool(torch.zeros([1], device=device)):
        raise RuntimeError("torchremote: " + str(device) + " has another value than was written")


def wait_for_tensors(tensors: List[Tensor]) -> None:
    for place, tensor in enumerate(tensors):
        if place == 0 or tensor.device != tensors[place - 1].device:
            wait_for(tensor.device)


def listed(tensor: Tensor, tensors: List[Tensor]) -> Tensor:
    tensors.append(tensor)
    return tensor


class Finishing:
    # The `with` of a call's work: it ends when the accelerator has done that.
    def __init__(self, flags: int, device: torch.device):
        self.flags = flags
        self.device = device

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if has_device_map(self.flags):
            wait_for(self.device)
