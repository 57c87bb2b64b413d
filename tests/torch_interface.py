"""An interface under torch's own decorator, which needs real annotations and a source file."""

import warnings

import torch
from torch import Tensor, nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch.jit.interface is deprecated; that it is still accepted is the point

    @torch.jit.interface
    class Scripted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            pass
