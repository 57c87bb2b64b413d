"""A Ray actor that holds the module."""

from __future__ import annotations

import ray
import torch
from driver import drive
from torch import Tensor, nn


@ray.remote(num_cpus=0)
class Actor:
    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.linear = nn.Linear(8, 8)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


torch.set_num_threads(1)
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
actor = Actor.remote()
x = torch.ones(4, 8)
drive(lambda: ray.get(actor.forward.remote(x)))
ray.shutdown()
