"""What does it cost to have tensors moved, in nested containers, to an accelerator and back?"""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Dict, List, Tuple

import torch
import torch.distributed.rpc as rpc
from torch import Tensor, nn

import torchremote

from .findings import OURS, Findings, Target
from .timing import Block, interleave, timed

Nested = Tuple[Dict[str, List[Tensor]], Tensor]
STAGED, MAPPED = "by way of the CPU", "with a device map"
BY_HAND, RPC_BY_HAND = "moves by hand", "scripted RPC by hand"
WIDTHS = {"64 x 64": 64, "1024 x 1024": 1024}


class Moving:
    def forward(self, value: Nested) -> Nested: ...


class Passing(nn.Module):
    """On the accelerator, with the tensors there already."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, value: Nested) -> Nested:
        return value


class MovingByHand:
    def forward(self, value: Nested, device: str) -> Nested: ...


class PassingByHand(nn.Module):
    """Moves what it is given itself; it has no tensor, and so counts as a module on the CPU."""

    def forward(self, value: Nested, device: str) -> Nested:
        there: Dict[str, List[Tensor]] = {}
        for name, tensors in value[0].items():
            there[name] = [tensor.to(device) for tensor in tensors]
        last = value[1].to(device)
        back: Dict[str, List[Tensor]] = {}
        for name, tensors in there.items():
            back[name] = [tensor.cpu() for tensor in tensors]
        return back, last.cpu()


@torch.jit.script
def passed_on(value: Nested) -> Nested:
    return value


@torch.jit.script
def pass_on(worker: str, value: Nested) -> Nested:
    return rpc.rpc_async(worker, passed_on, (value,)).wait()


GROUP = {"others": ("staged", "mapped"), "mapped": ("mapped",)}


def measure(quick: bool) -> Findings:
    device = f"{torch.accelerator.current_accelerator()}:0"
    staged, mapped = (torchremote.create(f"{worker}/{device}", Moving, Passing) for worker in ("staged", "mapped"))
    hand = torchremote.create("staged", MovingByHand, PassingByHand)
    blocks: dict[str, Block] = {}
    targets: list[Target] = []
    for size, width in WIDTHS.items():
        value, there = (nested(torch.ones(width, width, device=place)) for place in ("cpu", device))
        blocks[f"{OURS}, {STAGED}, {size}"] = timed(partial(finished, staged, value))
        blocks[f"{BY_HAND}, {STAGED}, {size}"] = timed(partial(finished, hand, value, device))
        blocks[f"{OURS}, {MAPPED}, {size}"] = timed(partial(finished, mapped, there))
        blocks[f"{RPC_BY_HAND}, {MAPPED}, {size}"] = timed(partial(finished, pass_on, "mapped", there))
        targets.append(Target(f"{OURS}, {STAGED}, {size}", f"{BY_HAND}, {STAGED}, {size}", 1.05))
    with torch.no_grad():
        found = interleave(blocks, rounds=9 if quick else 25, calls=10, warm_up=20)
    return Findings("Movement: 17 tensors, to an accelerator and back", "us", 1e6, found, targets)


def nested(tensor: Tensor) -> Nested:
    return {name: [tensor.clone() for _ in range(4)] for name in "abcd"}, tensor


def finished(call: Callable[..., Any], *args: Any) -> None:
    """Makes a call, and waits until the accelerator has done all."""
    call(*args)
    torch.accelerator.synchronize()
