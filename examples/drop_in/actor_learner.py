"""Actors and a learner: three workers play, and ask one scripted policy on a fourth what to do.

    python actor_learner.py [--torch] [--rounds 30]

The actors' calls run TorchScript on the learner, which learns from what they played (REINFORCE). With --torch, the
class is torch's. Either prints the same numbers.
"""

import argparse
import math
from typing import Any

import torch
import torch.distributed.rpc as rpc
import workers
from torch import Tensor, nn

parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
parser.add_argument("--torch", action="store_true", help="use torch.distributed.nn's remote module")
parser.add_argument("--rounds", type=int, default=30)
OPTIONS = parser.parse_args()

if OPTIONS.torch:
    from torch.distributed.nn.api.remote_module import _RemoteModule
else:
    from torchremote.dropin.remote_module import _RemoteModule  # type: ignore[assignment]

ACTORS = ("actor0", "actor1", "actor2")
LONGEST = 200  # steps of an episode


@torch.jit.interface
class Policy:
    def forward(self, state: Tensor) -> Tensor:  # pyright: ignore[reportReturnType]
        pass  # torch.jit.interface takes nothing else


class PolicyModule(nn.Module):
    """The state of a cart with a pole, [..., 4] float64 -> the logits of a push to the left and right, [..., 2]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 2)).double()

    def forward(self, state: Tensor) -> Tensor:
        return self.layers(state)


# -- on the learner

_policy: torch.jit.ScriptModule | None = None


def the_policy() -> Any:
    """The one policy: scripted, trained here, and called from everywhere."""
    global _policy
    if _policy is None:
        _policy = torch.jit.script(PolicyModule())
    return _policy


def learn() -> None:
    optimizer = torch.optim.Adam(the_policy().parameters(), lr=0.02)
    lengths = []
    for number in range(OPTIONS.rounds):
        playing = [rpc.rpc_async(name, play, (number * len(ACTORS) + n,)) for n, name in enumerate(ACTORS)]
        episodes = [played.wait() for played in playing]
        lengths.append(sum(len(actions) for _, actions in episodes) / len(episodes))
        returns = [torch.arange(len(actions), 0, -1, dtype=torch.float64) for _, actions in episodes]
        mean = torch.cat(returns).mean()
        optimizer.zero_grad()
        for (states, actions), to_go in zip(episodes, returns, strict=True):
            log_probabilities = the_policy()(states).log_softmax(1).gather(1, actions[:, None])[:, 0]
            (-(log_probabilities * (to_go - mean)).sum() / LONGEST).backward()
        optimizer.step()
    tenth = max(1, OPTIONS.rounds // 10)
    print(f"steps that the pole stood: {sum(lengths[:tenth]) / tenth:.2f} -> {sum(lengths[-tenth:]) / tenth:.2f}")
    print(f"parameters: {sum(parameter.sum().item() for parameter in the_policy().parameters()):.6f}")


# -- on an actor

_remote: Any = None


def play(seed: int) -> tuple[Tensor, Tensor]:
    """One episode: the states, [steps, 4] float64, and what was done in each, [steps] int64."""
    global _remote
    if _remote is None:
        # torch's signature says a class. It takes any callable, too.
        _remote = _RemoteModule("learner", the_policy, _module_interface_cls=Policy)  # type: ignore[arg-type]
    random = torch.Generator().manual_seed(seed)
    state = (torch.rand(4, generator=random, dtype=torch.float64) - 0.5) / 10
    states: list[Tensor] = []
    actions: list[float] = []
    with torch.no_grad():
        while len(actions) < LONGEST and abs(state[0]) < 2.4 and abs(state[2]) < 0.21:
            action = torch.multinomial(_remote.forward(state).softmax(0), 1, generator=random).item()
            states.append(state)
            actions.append(action)
            state = push(state, 10.0 if action else -10.0)
    return torch.stack(states), torch.tensor(actions)


def push(state: Tensor, force: float) -> Tensor:
    """A cart of 1 kg with a pole of 0.1 kg and 1 m, pushed for 20 ms with `force`, in newtons."""
    _, speed, angle, turning = state.tolist()
    sine, cosine = math.sin(angle), math.cos(angle)
    pushed = (force + 0.05 * turning**2 * sine) / 1.1
    turned = (9.8 * sine - cosine * pushed) / (0.5 * (4 / 3 - 0.1 * cosine**2 / 1.1))
    moved = pushed - 0.05 * turned * cosine / 1.1
    changes = (speed, moved, turning, turned)
    return state + 0.02 * torch.tensor(changes, dtype=torch.float64)


if __name__ == "__main__":
    workers.run({"learner": learn, **dict.fromkeys(ACTORS)})
