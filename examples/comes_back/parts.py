"""The model that the parameter server has."""

import torch
from torch import Tensor, nn

import torchremote as tr


@tr.remote_scriptable
class Regressor:
    """[n, 16] float32 -> [n, 1] float32."""

    def forward(self, x: Tensor) -> Tensor: ...


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(16, 64)
        self.out = nn.Linear(64, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.hidden(x).tanh())
        return y


def begin() -> nn.Module:
    """Makes the model as it is before the first step."""
    torch.manual_seed(0)
    return TwoLayers()
