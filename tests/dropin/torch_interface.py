"""Interfaces under torch's own decorator, which needs real annotations and a source file."""

import warnings
from typing import Tuple

import torch
from torch import Tensor, nn
from torch.futures import Future

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch.jit.interface is deprecated; that it is still accepted is the point

    @torch.jit.interface
    class Scripted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            pass

    @torch.jit.interface
    class Plain:
        def forward(self, x: Tensor) -> Tensor:
            pass

    @torch.jit.interface
    class Scorer:
        def forward(self, x: Tensor, times: int = 2) -> Tuple[Tensor, int]:
            pass

    @torch.jit.interface
    class RemoteScorer(nn.Module):  # TorchScript refuses another class as the annotation of a part
        def forward(self, x: Tensor, times: int = 2) -> Tuple[Tensor, int]:
            pass

        def forward_async(self, x: Tensor, times: int = 2) -> Future[Tuple[Tensor, int]]:
            pass


class ScorerModule(nn.Module):
    def __init__(self, seed: int = 0, bias: bool = True):
        super().__init__()
        self.linear = nn.Linear(3, 3, bias)
        self.extra = nn.Parameter(torch.zeros(1))
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, generator=generator)

    def forward(self, x: Tensor, times: int = 2) -> Tuple[Tensor, int]:
        return self.linear(x) * times, times


class CallsIt(nn.Module):
    """Calls a remote module in TorchScript, without waiting first."""

    scorer: RemoteScorer

    def __init__(self, scorer):
        super().__init__()
        self.scorer = scorer
        self.own = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        pending = self.scorer.forward_async(x, 3)
        waited, _ = self.scorer.forward(x, 1)
        return pending.wait()[0] + waited


class Scripts(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


class HoldsPlain(nn.Module):
    part: Plain

    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return self.part.forward(x)
