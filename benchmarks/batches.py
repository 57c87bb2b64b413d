"""How many calls a second are made in batches of 100?"""

from __future__ import annotations

import torch
from torch import Tensor

import torchremote

from .findings import OURS, Findings, Target
from .timing import interleave_rates
from .work import TORCH, Layer, Linear, torch_scripted

CALLS = 100
MANY, JOINED = f"{OURS}, forward_many", f"{OURS}, forward_many, @batched"
ONE_BY_ONE, IN_FLIGHT = f"{TORCH}, one by one", f"{TORCH}, 100 in flight"


class BatchedLayer:
    @torchremote.batched(0)
    def forward(self, x: Tensor) -> Tensor: ...


def measure(quick: bool) -> Findings:
    x = torch.ones(4, 8)
    stub, scripted = torchremote.create("owner", Layer, Linear), torch_scripted("owner", Linear)
    joining = torchremote.create("owner", BatchedLayer, Linear)
    calls = [(x,)] * CALLS
    contenders = {
        MANY: lambda: stub.forward_many(calls),
        JOINED: lambda: joining.forward_many(calls),
        ONE_BY_ONE: lambda: [scripted.forward(x) for _ in range(CALLS)],
        IN_FLIGHT: lambda: torch.futures.wait_all([scripted.forward_async(x) for _ in range(CALLS)]),
    }
    with torch.no_grad():
        rounds = interleave_rates(contenders, rounds=15 if quick else 60, amount=CALLS, warm_up=10)
    targets = (Target(MANY, ONE_BY_ONE, 10, at_least=True), Target(MANY, IN_FLIGHT, 4, at_least=True))
    return Findings("Batches of 100 calls", "calls/s", 1, rounds, targets)
