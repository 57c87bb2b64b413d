"""Waits for an accelerator where a call goes from one thread or stream to another.

A process compiles this text once, for all interfaces.

Note [Calls on an accelerator]
    An accelerator does its work later, in the order of a queue: a stream of CUDA's. With a device map, a call arrives
    in a stream of its own, in which its tensors are copied. RPC has the thread that brings the call use that stream.
    All other threads use the default stream, which does not wait for the others. So with a device map:

    * A call ends when the accelerator has done its work. TorchScript's Future of the result does not know on which
      device that is. So torch sends the result in the default stream, before it is there.
    * If calls run in turn, which changes threads, the thread that brings one waits until its tensors are there. Even if
      it fails, the call ends when its work is done: the memory of its arguments goes back to their stream.
    * A strand of the native part never runs such a call in the thread that brings it. So all work of a module is in the
      default stream, and reads what came before.

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


def finish(flags: int, device: torch.device) -> None:
    # Ends a call on a device.
    if has_device_map(flags):
        wait_for(device)


class Finishing:
    # Ends what is in a `with`, as a call does.
    def __init__(self, flags: int, device: torch.device):
        self.flags = flags
        self.device = device

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        finish(self.flags, self.device)
