"""What does it cost to have tensors moved, in nested containers, to an accelerator and back?"""

from __future__ import annotations

from typing import Dict, List, Tuple

import torch
from torch import Tensor, nn

import torchremote

from .findings import Findings, Target
from .group import in_group
from .timing import interleave, timed
from .work import OURS

Nested = Tuple[Dict[str, List[Tensor]], Tensor]
BY_HAND = "moves by hand"


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


def measure(quick: bool) -> Findings:
    if not torch.accelerator.is_available():
        missing = "no accelerator on this machine"
        return Findings("Movement: 17 tensors, to an accelerator and back", "us", 1e6, {}, left_out={OURS: missing})
    return in_group(_measure, quick)


def _measure(quick: bool) -> Findings:
    device = f"{torch.accelerator.current_accelerator()}:0"
    value = ({name: [torch.ones(64, 64) for _ in range(4)] for name in "abcd"}, torch.ones(64, 64))
    ours = torchremote.create(f"owner/{device}", Moving, Passing)
    hand = torchremote.create("owner", MovingByHand, PassingByHand)
    blocks = {OURS: timed(lambda: ours(value)), BY_HAND: timed(lambda: hand(value, device))}
    with torch.no_grad():
        found = interleave(blocks, rounds=9 if quick else 25, calls=50, warm_up=50)
    return Findings(
        "Movement: 17 tensors, to an accelerator and back", "us", 1e6, found, (Target(OURS, BY_HAND, 1.05),)
    )
