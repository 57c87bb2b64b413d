"""How long does it take to create 100 modules of one interface, stubs ready to call?"""

from __future__ import annotations

import gc

import torchremote

from .findings import OURS, Findings, Target
from .timing import interleave, timed
from .work import TORCH, Layer, Linear, torch_scripted

MODULES = 100
ONE_BY_ONE = f"{OURS}, create one by one"
MANY = f"{OURS}, create_many"


def measure(quick: bool) -> Findings:
    contenders = {
        MANY: lambda: torchremote.create_many(["owner"] * MODULES, Layer, Linear),
        ONE_BY_ONE: lambda: [torchremote.create("owner", Layer, Linear) for _ in range(MODULES)],
        TORCH: lambda: [torch_scripted("owner", Linear) for _ in range(MODULES)],
    }
    blocks = {name: timed(make) for name, make in contenders.items()}
    rounds = interleave(blocks, rounds=7 if quick else 15, calls=1, warm_up=1)
    gc.collect()  # torch's modules go with the collector, and have to before RPC ends
    targets = (Target(MANY, TORCH, 0.2),)
    return Findings("Creating 100 modules, stubs ready to call", "ms", 1e3, rounds, targets)
