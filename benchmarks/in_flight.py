"""How many calls a second does one caller make that keeps 100 in flight?"""

from typing import List

import torch
import torch.distributed.rpc as rpc
from torch import Tensor, nn

import torchremote

from .findings import OURS, Findings, Target
from .timing import interleave_rates
from .work import BY_HAND, TORCH, Layer, Linear, by_hand, register_by_hand, torch_scripted

CALLS = 100
HAND_LOOP = f"{BY_HAND}, in TorchScript"
LOOP, TORCHS_LOOP = f"{OURS}, in TorchScript", f"{TORCH}, in TorchScript"


def measure(quick: bool) -> Findings:
    x = torch.ones(4, 8)
    stub, scripted = torchremote.create("owner", Layer, Linear), torch_scripted("owner", Linear)
    loop, torchs_loop = torch.jit.script(Loop(stub)), torch.jit.script(TorchsLoop(scripted))
    by_hand("owner", Linear)
    function = register_by_hand(Linear)

    @torch.jit.script
    def hand_loop(to: str, x: Tensor, calls: int) -> List[Tensor]:
        futures = [rpc.rpc_async(to, function, (x,)) for _ in range(calls)]
        return [future.wait() for future in futures]

    contenders = {
        OURS: lambda: torch.futures.wait_all([stub.forward_async(x) for _ in range(CALLS)]),
        TORCH: lambda: torch.futures.wait_all([scripted.forward_async(x) for _ in range(CALLS)]),
        LOOP: lambda: loop(x, CALLS),
        TORCHS_LOOP: lambda: torchs_loop(x, CALLS),
        HAND_LOOP: lambda: hand_loop("owner", x, CALLS),
    }
    with torch.no_grad():
        rounds = interleave_rates(contenders, rounds=15 if quick else 60, amount=CALLS, warm_up=10)
    targets = (Target(OURS, TORCH, 1.6, at_least=True), Target(LOOP, TORCHS_LOOP, 1.6, at_least=True))
    return Findings("100 calls in flight, one caller", "calls/s", 1, rounds, targets)


class TorchsLoop(nn.Module):
    """Keeps calls in flight in TorchScript, where a Future has no callback in Python."""

    def __init__(self, remote: nn.Module) -> None:
        super().__init__()
        self.remote = remote

    def forward(self, x: Tensor, calls: int) -> List[Tensor]:
        futures = [self.remote.forward_async(x) for _ in range(calls)]
        return [future.wait() for future in futures]


class Loop(TorchsLoop):
    remote: torchremote.remote_interface(Layer)  # type: ignore[valid-type]
