"""Trains a model with two remote parts, and saves it: the model as one archive, the parts' state on their owners.

python train.py trainer 0 RENDEZVOUS EPOCHS    in three processes; see run.py
python train.py left 1 RENDEZVOUS
python train.py right 2 RENDEZVOUS
"""

import sys

import torch
import torch.distributed.autograd as dist_autograd
import torch.distributed.rpc as rpc
from data import accuracy, load
from parts import Half, HalfEncoder
from torch import Tensor, nn
from torch.distributed.optim import DistributedOptimizer

import torchremote as tr


class Reader(nn.Module):
    """Reads digits: images [n, 64] float32 -> logits [n, 10] float32. Another worker sees each half of an image."""

    left: Half
    right: Half

    def __init__(self, left: Half, right: Half) -> None:
        super().__init__()
        self.left = left
        self.right = right
        self.head = nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        rows = images.view(-1, 8, 8)
        left = self.left.forward(rows[:, :, :4].reshape(-1, 32))
        right = self.right.forward(rows[:, :, 4:].reshape(-1, 32))
        return self.head(torch.cat([left, right], 1))


def train(epochs: int) -> None:
    parts = [tr.create(name, Half, HalfEncoder, (seed,), name=name) for seed, name in enumerate(("left", "right"))]
    torch.manual_seed(2)
    model = torch.jit.script(Reader(*parts))
    parameters = [rpc.RRef(parameter) for parameter in model.head.parameters()]
    for part in parts:
        parameters += tr.at_owner(part).parameters()
    optimizer = DistributedOptimizer(torch.optim.Adam, parameters, lr=0.005)
    images, test_images, labels, test_labels = load()
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(64):
            with dist_autograd.context() as context:
                loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
                dist_autograd.backward(context, [loss])
                optimizer.step(context)
    print(f"trained: accuracy {accuracy(model, test_images, test_labels):.4f}")

    model.eval()  # of the parts, too: they are served in this mode
    torch.jit.save(model, "model.pt")  # plain torch: the head, and where its parts are
    for part, name in zip(parts, ("left", "right"), strict=True):
        tr.at_owner(part).checkpoint(f"{name}.pt")  # written by the part's owner, where it is


if __name__ == "__main__":
    name, rank, rendezvous, *rest = sys.argv[1:]
    torch.set_num_threads(1)
    options = tr.rpc_options(init_method=rendezvous)
    rpc.init_rpc(name, rank=int(rank), world_size=3, rpc_backend_options=options)
    if name == "trainer":
        train(epochs=int(rest[0]))
    rpc.shutdown()  # waits until everybody is done
