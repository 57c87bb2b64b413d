"""A pipeline: a network in three stages on three workers, which work on different parts of a batch at a time.

    python pipeline.py [--torch] [--epochs 4]

With --torch, the class is torch's. Either prints the same numbers.
"""

import argparse
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed.autograd as dist_autograd
import workers
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.distributed.optim import DistributedOptimizer

parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
parser.add_argument("--torch", action="store_true", help="use torch.distributed.nn.RemoteModule")
parser.add_argument("--epochs", type=int, default=4)
OPTIONS = parser.parse_args()

if OPTIONS.torch:
    from torch.distributed.nn import RemoteModule
else:
    from torchremote import RemoteModule

TESTED = 400  # of scikit-learn's 1,797 handwritten digits


class Stage(nn.Module):
    """One stage: [n, inputs] -> [n, outputs], float64."""

    def __init__(self, inputs: int, outputs: int, seed: int, last: bool = False) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.linear = nn.Linear(inputs, outputs).double()
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x)
        return x if self.last else x.relu()


class Pipeline(nn.Module):
    """Images [n, 64] float64 -> logits [n, 10]; `parts` of a batch are on their way at a time."""

    def __init__(self, stages: list[RemoteModule], parts: int = 4) -> None:
        super().__init__()
        self.stages: Iterable[Any] = nn.ModuleList(stages)
        self.parts = parts

    def forward(self, images: Tensor) -> Tensor:
        flowing: list[Any] = list(images.chunk(self.parts))
        for stage in self.stages:
            flowing = [stage.forward_async(part if torch.is_tensor(part) else part.wait()) for part in flowing]
        return torch.cat([part.wait() for part in flowing])


def master() -> None:
    sizes = ((64, 64), (64, 32), (32, 10))
    stages = [
        RemoteModule(f"stage{n}", Stage, (*size, n), {"last": n == len(sizes) - 1}) for n, size in enumerate(sizes)
    ]
    model = Pipeline(stages)
    parameters = [rref for stage in stages for rref in stage.remote_parameters()]
    optimizer = DistributedOptimizer(torch.optim.Adam, parameters, lr=0.01)
    digits: Any = load_digits()
    images, labels = torch.tensor(digits.data) / 16, torch.tensor(digits.target)
    losses = []
    for _ in range(OPTIONS.epochs):
        for batch in torch.randperm(len(images) - TESTED).split(128)[:-1]:
            with dist_autograd.context() as context:
                loss = nn.functional.cross_entropy(model(images[TESTED:][batch]), labels[TESTED:][batch])
                dist_autograd.backward(context, [loss])
                optimizer.step(context)
            losses.append(loss.item())
    for stage in stages:
        stage.eval()
    right = (model(images[:TESTED]).argmax(1) == labels[:TESTED]).double().mean().item()
    print(f"loss {losses[0]:.6f} -> {losses[-1]:.6f}, accuracy {right:.4f}")


if __name__ == "__main__":
    workers.run({"master": master, "stage0": None, "stage1": None, "stage2": None})
