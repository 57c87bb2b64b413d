"""What does it save that a result goes from one owner to the next, and not through the caller?"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributed.rpc import RRef

import torchremote

from .findings import OURS, Findings, Target
from .timing import Block, interleave, timed

SIZES = {"16 KiB": 1 << 12, "16 MiB": 1 << 22}  # numbers of float32
THROUGH, STRAIGHT = "through the caller", f"{OURS}: from owner to owner"


class Stage:
    def forward(self, x: Tensor) -> Tensor: ...
    def total(self, x: Tensor) -> Tensor: ...
    def total_of(self, x: RRef[Tensor]) -> Tensor: ...


class Growing(nn.Module):
    """Makes a large activation of a small input, and a small result of a large activation."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x.expand(self.size).contiguous()

    def total(self, x: Tensor) -> Tensor:
        return x[:8].sum()

    def total_of(self, x: RRef[Tensor]) -> Tensor:
        return x.to_here()[:8].sum()


GROUP = {"others": ("first", "second"), "options": {"large_tensors": True}}


def measure(quick: bool) -> Findings:
    x = torch.ones(1)
    blocks: dict[str, Block] = {}
    for name, size in SIZES.items():
        first = torchremote.create("first", Stage, Growing, args=(size,))
        second = torchremote.create("second", Stage, Growing, args=(size,))
        blocks[f"{THROUGH}, {name}"] = timed(lambda a=first, b=second: b.total(a(x)))
        blocks[f"{STRAIGHT}, {name}"] = timed(lambda a=first, b=second: b.total_of(a.forward_remote(x)))
    with torch.no_grad():
        rounds = interleave(blocks, 9 if quick else 25, calls=10 if quick else 20, warm_up=10)
    targets = (Target(f"{STRAIGHT}, 16 MiB", f"{THROUGH}, 16 MiB", 1.0),)
    return Findings("Two owners, one after the other, by the size of what is between them", "us", 1e6, rounds, targets)
