"""A Monarch actor that holds the module, on a mesh of one process."""

from __future__ import annotations

import torch
from driver import drive
from monarch.actor import Actor, endpoint, this_host
from torch import Tensor, nn


class Layer(Actor):
    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.linear = nn.Linear(8, 8)

    @endpoint
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.linear(x)


if __name__ == "__main__":
    torch.set_num_threads(1)
    procs = this_host().spawn_procs()
    layer = procs.spawn("layer", Layer)
    x = torch.ones(4, 8)
    drive(lambda: layer.forward.call_one(x).get())
    procs.stop().get()
