"""A part of the model: what the two owners have, and nobody else needs once the model is trained."""

import torch
from torch import Tensor, nn

import torchremote as tr


@tr.remote_scriptable
class Half:
    """One half of an image, [n, 32] float32 in 0..1 -> what it tells, [n, 16] float32."""

    def forward(self, pixels: Tensor) -> Tensor: ...


class HalfEncoder(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.hidden = nn.Linear(32, 64)
        self.out = nn.Linear(64, 16)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.out(self.hidden(pixels).relu()).relu()
