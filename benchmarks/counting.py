"""What does it cost to count calls: one alone, and a hundred in flight? Two modules on one owner; one is counted."""

from __future__ import annotations

import torch
import torch.distributed.rpc as rpc

import torchremote
from torchremote import native

from .findings import OURS, Findings, Target
from .timing import Block, in_flight, interleave, timed
from .work import Layer, Linear

IN_FLIGHT = 100
ONE = "one call"
MANY = f"{IN_FLIGHT} in flight, a call"
UNCOUNTED, COUNTED = "not counted", f"{OURS}, counted"


def measure(quick: bool) -> Findings:
    x = torch.ones(4, 8)
    stubs = {UNCOUNTED: torchremote.create("owner", Layer, Linear)}
    rpc.rpc_sync("owner", _count)
    stubs[COUNTED] = torchremote.create("owner", Layer, Linear)
    blocks: dict[str, Block] = {}
    for name, stub in stubs.items():
        blocks[f"{name}: {ONE}"] = timed(lambda stub=stub: stub(x))
        blocks[f"{name}: {MANY}"] = in_flight(stub, x, IN_FLIGHT, every=20)
    with torch.no_grad():
        rounds = interleave(blocks, 9 if quick else 60, calls=100, warm_up=200)
    targets = (Target(f"{COUNTED}: {ONE}", f"{UNCOUNTED}: {ONE}", 1.01 if native.available() else 1.12),)
    return Findings("Calls that are counted, and calls that are not", "us", 1e6, rounds, targets)


def _count() -> None:
    torchremote.rpc_options(counts=True)
