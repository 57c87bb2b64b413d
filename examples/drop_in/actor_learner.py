"""Actors and a learner: three workers play, and ask one scripted policy on a fourth what to do.

    python actor_learner.py [--torch | --gather] [--rounds 30] [--games 1]

The actors' calls run TorchScript on the learner, which learns from what they played (REINFORCE). Each actor plays so
many games at once. With --torch, the class is torch's. With --gather, the learner serves the policy, and makes one call
of all that ask at the same time: that takes three lines. All print the same numbers.
"""

import argparse
import math
from typing import Any

import torch
import torch.distributed.rpc as rpc
import workers
from torch import Tensor, nn

import torchremote as tr

parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
which = parser.add_mutually_exclusive_group()
which.add_argument("--torch", action="store_true", help="use torch.distributed.nn's remote module")
which.add_argument("--gather", action="store_true", help="make one call of those that come at the same time")
parser.add_argument("--rounds", type=int, default=30)
parser.add_argument("--games", type=int, default=1, help="that each actor plays at once")
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


@tr.remote_scriptable
class BatchedPolicy:
    @tr.batched(0)
    def forward(self, state: Tensor) -> Tensor: ...


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
    if OPTIONS.gather:
        tr.serve(the_policy(), BatchedPolicy, "policy", gather=64)
    optimizer = torch.optim.Adam(the_policy().parameters(), lr=0.02)
    lengths = []
    for number in range(OPTIONS.rounds):
        playing = []
        for n, name in enumerate(ACTORS, number * len(ACTORS)):
            playing.append(rpc.rpc_async(name, play, (range(n * OPTIONS.games, (n + 1) * OPTIONS.games),)))
        episodes = [episode for played in playing for episode in played.wait()]
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


class Game:
    """One episode, as it is played."""

    def __init__(self, seed: int) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.state = (torch.rand(4, generator=self.random, dtype=torch.float64) - 0.5) / 10
        self.states: list[Tensor] = []
        self.actions: list[float] = []

    @property
    def goes_on(self) -> bool:
        return len(self.actions) < LONGEST and bool(abs(self.state[0]) < 2.4 and abs(self.state[2]) < 0.21)

    def act(self, logits: Tensor) -> None:
        action = torch.multinomial(logits.softmax(0), 1, generator=self.random).item()
        self.states.append(self.state)
        self.actions.append(action)
        self.state = push(self.state, 10.0 if action else -10.0)


def play(seeds: range) -> list[tuple[Tensor, Tensor]]:
    """Plays an episode for each seed, all at once.

    Returns, for each, the states, [steps, 4] float64, and what was done in each, [steps] int64.
    """
    global _remote
    if _remote is None and OPTIONS.gather:
        _remote = tr.connect("learner", BatchedPolicy, "policy")
    elif _remote is None:
        # torch's signature says a class. It takes any callable, too.
        _remote = _RemoteModule("learner", the_policy, _module_interface_cls=Policy)  # type: ignore[arg-type]
    games = [Game(seed) for seed in seeds]
    with torch.no_grad():
        while playing := [game for game in games if game.goes_on]:
            asked = [_remote.forward_async(game.state[None]) for game in playing]
            for game, logits in zip(playing, asked, strict=True):
                game.act(logits.wait()[0])
    return [(torch.stack(game.states), torch.tensor(game.actions)) for game in games]


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
