"""How many calls a second does one caller make that keeps 100 in flight?"""

from __future__ import annotations

import torch

import torchremote

from .findings import Findings, Target
from .group import in_group
from .timing import interleave_rates
from .work import OURS, TORCH, Layer, Linear, torch_scripted

CALLS = 100


def measure(quick: bool) -> Findings:
    return in_group(_measure, quick)


def _measure(quick: bool) -> Findings:
    x = torch.ones(4, 8)
    stub, scripted = torchremote.create("owner", Layer, Linear), torch_scripted("owner", Linear)
    contenders = {
        OURS: lambda: torch.futures.wait_all([stub.forward_async(x) for _ in range(CALLS)]),
        TORCH: lambda: torch.futures.wait_all([scripted.forward_async(x) for _ in range(CALLS)]),
    }
    with torch.no_grad():
        rounds = interleave_rates(contenders, rounds=15 if quick else 60, amount=CALLS, warm_up=10)
    return Findings("100 calls in flight, one caller", "calls/s", 1, rounds, (Target(OURS, TORCH, 1.6, at_least=True),))
