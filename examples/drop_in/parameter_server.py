"""A parameter server: an embedding table on one worker, and two trainers that share it, data-parallel in the rest.

    python parameter_server.py [--torch] [--epochs 4]

Four processes. The table learns through RPC's autograd; the trainers' own layers are DistributedDataParallel over gloo.
With --torch, the class is torch's. Either prints the same numbers.
"""

import argparse
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.autograd as dist_autograd
import torch.distributed.rpc as rpc
import workers
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.distributed.optim import DistributedOptimizer
from torch.nn.parallel import DistributedDataParallel

parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
parser.add_argument("--torch", action="store_true", help="use torch.distributed.nn.RemoteModule")
parser.add_argument("--epochs", type=int, default=4)
OPTIONS = parser.parse_args()

if OPTIONS.torch:
    from torch.distributed.nn import RemoteModule
else:
    from torchremote import RemoteModule

TRAINERS = ("trainer0", "trainer1")
TESTED = 400  # of scikit-learn's 1,797 handwritten digits


class Reader(nn.Module):
    """Reads digits: tokens [n, 64] int64 -> logits [n, 10] float64."""

    def __init__(self, table: RemoteModule) -> None:
        super().__init__()
        self.table = table
        torch.manual_seed(1)
        self.head = DistributedDataParallel(nn.Sequential(nn.ReLU(), nn.Linear(16, 10)).double())

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.table.forward(tokens))


def load() -> tuple[Tensor, Tensor]:
    """Each pixel is a token, which says where it is and how dark: 64 of 64 * 17."""
    digits: Any = load_digits()
    tokens = torch.tensor(digits.data).long() + torch.arange(64) * 17
    return tokens, torch.tensor(digits.target)


def train(table: RemoteModule, rank: int) -> tuple[float, float, float]:
    """On a trainer."""
    dist.init_process_group("gloo", init_method=workers.rendezvous("gloo"), rank=rank, world_size=len(TRAINERS))
    model = Reader(table)
    parameters = table.remote_parameters() + [rpc.RRef(parameter) for parameter in model.head.parameters()]
    optimizer = DistributedOptimizer(torch.optim.Adam, parameters, lr=0.1)
    tokens, labels = load()
    mine = torch.arange(TESTED, len(tokens))[rank :: len(TRAINERS)]
    losses = []
    for _ in range(OPTIONS.epochs):
        for batch in mine.split(64)[:-1]:
            with dist_autograd.context() as context:
                loss = nn.functional.cross_entropy(model(tokens[batch]), labels[batch])
                dist_autograd.backward(context, [loss])  # waits for the other trainer
                for turn in range(len(TRAINERS)):  # one after the other, so that every run is the same
                    if turn == rank:
                        optimizer.step(context)
                    dist.barrier()
            losses.append(loss.item())
    with torch.no_grad():
        right = (model(tokens[:TESTED]).argmax(1) == labels[:TESTED]).double().mean().item()
    dist.destroy_process_group()
    return losses[0], losses[-1], right


def master() -> None:
    table = RemoteModule("ps", nn.EmbeddingBag, (64 * 17, 16), {"mode": "mean", "dtype": torch.float64})
    told = [rpc.rpc_async(name, train, (table, rank), timeout=0) for rank, name in enumerate(TRAINERS)]
    for name, trained in zip(TRAINERS, told, strict=True):
        first, last, right = trained.wait()
        print(f"{name}: loss {first:.6f} -> {last:.6f}, accuracy {right:.4f}")


if __name__ == "__main__":
    workers.run({"master": master, "ps": None, **dict.fromkeys(TRAINERS)})
