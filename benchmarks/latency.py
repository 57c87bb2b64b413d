"""How long does one call take? [4, 8] float32 through a Linear(8, 8), from Python, one call after the other."""

from __future__ import annotations

import torch

import torchremote

from .findings import OURS, Findings, Target
from .timing import interleave, timed
from .work import BY_HAND, TORCH, TORCH_PYTHON, Layer, Linear, by_hand, torch_python, torch_scripted

TARGETS = (
    Target(OURS, BY_HAND, 1.06),
    Target(OURS, TORCH, 0.65),
    Target(OURS, TORCH_PYTHON, 0.40),
)


def measure(quick: bool) -> Findings:
    x = torch.ones(4, 8)
    stub = torchremote.create("owner", Layer, Linear)
    hand, scripted, python = by_hand("owner", Linear), torch_scripted("owner", Linear), torch_python("owner", Linear)
    contenders = {
        OURS: timed(lambda: stub(x)),
        BY_HAND: timed(lambda: hand(x)),
        TORCH: timed(lambda: scripted.forward(x)),
        TORCH_PYTHON: timed(lambda: python.forward(x)),
    }
    with torch.no_grad():
        rounds = interleave(contenders, rounds=7 if quick else 60, calls=100, warm_up=200)
    return Findings("One call of [4, 8] float32 through a Linear(8, 8)", "us", 1e6, rounds, TARGETS)
