"""Trains a model on a parameter server that is killed twice, and comes back from its checkpoint each time.

    python examples/comes_back/train.py [--steps 300]

The trainer never ends. It notices that a step failed, starts the server again, and goes on with the step after the last
checkpoint.
"""

import argparse
import os
import tempfile

import torch
import torch.distributed.autograd as dist_autograd
from parts import Regressor, begin
from torch.distributed.optim import DistributedOptimizer

import torchremote as tr

EVERY = 20  # steps between two checkpoints


class Server:
    """The parameter server's process, its model and optimizer, as the trainer sees them."""

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = checkpoint
        self.start()

    def start(self) -> None:
        self.process = tr.spawn("ps", shared_memory=False)
        self.model = tr.create("ps", Regressor, begin, name="model", checkpoint=self.checkpoint, timeout=20)
        self.optimizer = DistributedOptimizer(torch.optim.SGD, tr.at_owner(self.model).parameters(), lr=0.1)

    def crash(self) -> None:
        self.process.kill()
        self.process.wait()


def step(server: Server, x: torch.Tensor, target: torch.Tensor) -> None:
    with dist_autograd.context() as context:
        loss = torch.nn.functional.mse_loss(server.model(x), target)
        dist_autograd.backward(context, [loss])
        server.optimizer.step(context)


def loss_of(server: Server, x: torch.Tensor, target: torch.Tensor) -> float:
    with torch.no_grad():
        return torch.nn.functional.mse_loss(server.model(x), target).item()


def train(server: Server, steps: int) -> None:
    torch.manual_seed(1)
    x = torch.randn(256, 16)
    target = (x[:, :1] * x[:, 1:2]).sin()
    print(f"step 0: loss {loss_of(server, x, target):.6f}")
    crashes = [steps // 3 + 7, 2 * steps // 3 + 7]
    done = saved = 0
    while done < steps:
        if crashes and done >= crashes[0]:
            crashes.pop(0)
            server.crash()
        try:
            step(server, x, target)
        except (tr.errors.RemoteError, tr.errors.CallTimeoutError):  # a bug in the module, or an owner that is slow
            raise
        except (RuntimeError, ConnectionError):  # torch's own errors, in backward and step, are RuntimeErrors
            server.start()
            print(f"step {done}: the server is lost; back to step {saved}: loss {loss_of(server, x, target):.6f}")
            done = saved
            continue
        done += 1
        if done % EVERY == 0:
            tr.at_owner(server.model).checkpoint()
            saved = done
            print(f"step {done}: loss {loss_of(server, x, target):.6f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tr.join("trainer", shared_memory=False)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(os.path.join(folder, "model.pt"))
        train(server, options.steps)
        server.process.terminate()
        server.process.wait()
    tr.leave()


if __name__ == "__main__":
    main()
