"""How many bytes a second does a large tensor travel with? 64 MiB there and back."""

from __future__ import annotations

import torch

import torchremote

from .findings import OURS, Findings, Target
from .timing import interleave_rates
from .work import BY_HAND, TORCH, Echo, Layer, by_hand, torch_scripted

BYTES = 64 << 20


def measure(quick: bool) -> Findings:
    x = torch.ones(BYTES // 4)
    stub = torchremote.create("owner", Layer, Echo)
    hand, scripted = by_hand("owner", Echo), torch_scripted("owner", Echo)
    contenders = {OURS: lambda: stub(x), BY_HAND: lambda: hand(x), TORCH: lambda: scripted.forward(x)}
    with torch.no_grad():
        rounds = interleave_rates(contenders, rounds=11 if quick else 100, amount=2 * BYTES, warm_up=3)
    targets = (Target(OURS, BY_HAND, 0.97, at_least=True),)
    return Findings("Echo of a 64 MiB tensor", "GB/s", 1e-9, rounds, targets)
