"""An interface whose annotations are strings."""

from __future__ import annotations

import torch
from torch import Tensor


class Postponed:
    def forward(self, x: Tensor) -> Tensor: ...


class PostponedModule(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x
