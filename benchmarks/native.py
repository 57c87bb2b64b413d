"""What does the native part give a caller? One call of [4, 8], from Python and from a scripted loop, idle and busy.

The caller's own Python is what is busy here, in two threads. Without the native part, TorchScript takes the GIL of the
caller once a call.
"""

from typing import List

import torch
import torch.distributed.rpc as rpc
from torch import Tensor, nn

import torchremote

from .busy_owner import start_being_busy, stop_being_busy
from .findings import OURS, Findings, Target
from .timing import Block, Rounds, interleave, timed
from .work import BY_HAND, TORCH, Layer, Linear, by_hand, register_by_hand, torch_scripted

NATIVE = f"{OURS}, native"
LOOP, HAND_LOOP, TORCHS_LOOP = (f"{name}, scripted loop" for name in (NATIVE, BY_HAND, TORCH))
BUSY, BUSY_TORCH = f"{LOOP}, caller busy", f"{TORCHS_LOOP}, caller busy"
TARGETS = (
    Target(NATIVE, BY_HAND, 1.0),
    Target(LOOP, HAND_LOOP, 0.92),
    Target(NATIVE, TORCH, 0.68),
    Target(BUSY, BUSY_TORCH, 0.05),
    Target(BUSY, BUSY_TORCH, 0.3, statistic="p99"),
)


GROUP = {"native": True}


def measure(quick: bool) -> Findings:
    x = torch.ones(4, 8)
    stub = torchremote.create("owner", Layer, Linear)
    hand, scripted = by_hand("owner", Linear), torch_scripted("owner", Linear)
    function = register_by_hand(Linear)

    @torch.jit.script
    def hand_loop(to: str, x: Tensor, calls: int) -> List[int]:
        took: List[int] = []
        for _ in range(calls):
            start = torch.ops.prim.TimePoint()
            rpc.rpc_async(to, function, (x,)).wait()
            took.append(torch.ops.prim.TimePoint() - start)
        return took

    ours_loop, torchs_loop = torch.jit.script(Loop(stub)), torch.jit.script(TorchsLoop(scripted))
    loops: dict[str, Block] = {
        LOOP: lambda calls: [took / 1e9 for took in ours_loop(x, calls)],
        TORCHS_LOOP: lambda calls: [took / 1e9 for took in torchs_loop(x, calls)],
        HAND_LOOP: lambda calls: [took / 1e9 for took in hand_loop("owner", x, calls)],
    }
    calls: dict[str, Block] = {
        NATIVE: timed(lambda: stub(x)),
        BY_HAND: timed(lambda: hand(x)),
        TORCH: timed(lambda: scripted.forward(x)),
    }
    found: Rounds = {}
    with torch.no_grad():
        interleave(calls | loops, rounds=1, calls=1, warm_up=200)
        for _ in range(7 if quick else 30):
            idle = interleave(calls | loops, rounds=1, calls=100, warm_up=20)
            start_being_busy()
            busy = interleave({BUSY: loops[LOOP]}, rounds=1, calls=100, warm_up=20)
            busy |= interleave({BUSY_TORCH: loops[TORCHS_LOOP]}, rounds=1, calls=30, warm_up=1)
            stop_being_busy()
            for name, values in (idle | busy).items():
                found.setdefault(name, []).extend(values)
    return Findings("One call through the native part", "us", 1e6, found, TARGETS)


class TorchsLoop(nn.Module):
    """Makes calls in TorchScript, and returns the nanoseconds of each."""

    def __init__(self, remote: nn.Module) -> None:
        super().__init__()
        self.remote = remote

    def forward(self, x: Tensor, calls: int) -> List[int]:
        took: List[int] = []
        for _ in range(calls):
            start = torch.ops.prim.TimePoint()
            self.remote.forward(x)
            took.append(torch.ops.prim.TimePoint() - start)
        return took


class Loop(TorchsLoop):
    remote: Layer
