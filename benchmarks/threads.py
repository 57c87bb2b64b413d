"""How many threads should an operator of a call have: one, or one for each core? Two owners on one machine take turns.

OpenMP gives each thread that computes a team of its own, and an owner has sixteen threads for calls.
"""

from __future__ import annotations

import os

import torch
import torch.distributed.rpc as rpc
from torch import nn

import torchremote

from .findings import OURS, Findings
from .gathering import WIDTH, Network, Rows
from .timing import Block, in_flight, interleave
from .work import Layer, Linear

CORES = os.cpu_count() or 1
ONE, EACH = "one thread", f"{CORES} threads"
OWNERS = {ONE: ("one", 1), EACH: ("each", CORES)}
ROWS = 64
IN_FLIGHT = 64


# Through shared memory, each of three processes would keep a core busy.
GROUP = {"others": tuple(owner for owner, _ in OWNERS.values()), "options": {"shared_memory": False}}


def measure(quick: bool) -> Findings:
    small, large, row = torch.ones(4, 8), torch.randn(ROWS, WIDTH), torch.randn(1, WIDTH)
    blocks: dict[str, Block] = {}
    for name, (owner, threads) in OWNERS.items():
        rpc.rpc_sync(owner, _set_threads, (threads,))
        linear = torchremote.create(owner, Layer, Linear)
        network = torchremote.create(owner, Rows, Network)
        gathered = torchremote.create(owner, Rows, Network, gather=IN_FLIGHT)
        several = torchremote.create(owner, Rows, Rounds)
        for work, stub, x, depth in (
            ("[4, 8] through a layer of 8", linear, small, 1),
            ("[4, 8] through a layer of 8", linear, small, IN_FLIGHT),
            (f"[{ROWS}, {WIDTH}] through a network", network, large, 1),
            (f"[{ROWS}, {WIDTH}] through a network", network, large, 16),
            (f"[1, {WIDTH}] through a network", network, row, IN_FLIGHT),
            (f"[1, {WIDTH}] through a network, gathered", gathered, row, IN_FLIGHT),
            ("many small operators on [64, 1024]", several, large, 1),
            ("many small operators on [64, 1024]", several, large, 16),
        ):
            blocks[f"{OURS}, {name}: {work}, {depth} in flight"] = in_flight(stub, x, depth)
    with torch.no_grad():
        rounds = interleave(blocks, 9 if quick else 25, calls=4 if quick else 8, warm_up=2)
    return Findings("A call, by the threads of its operators", "us", 1e6, rounds)


def _set_threads(number: int) -> None:
    torch.set_num_threads(number)  # it reaches all threads of this process that have not computed yet


class Rounds(nn.Module):
    """Operators without matrices, of which each has a parallel part."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(20):
            x = torch.tanh(x + 1)
        return x
