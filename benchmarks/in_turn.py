"""What do calls that run in turn cost: one alone, a hundred in flight, and beside a slow module on the same owner?"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

import torchremote
from torchremote import native

from .findings import OURS, Findings, Target
from .timing import Block, in_flight, interleave, timed
from .work import Layer, Linear

IN_FLIGHT = 100
ONE = "one call"
MANY = f"{IN_FLIGHT} in flight, a call"
BESIDE = "beside a slow module"
AT_ONCE, IN_TURN = "at once", f"{OURS}, in turn"


class Recurrent(nn.Module):
    """[n, 8] float32 -> [n, 8] float32."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8).requires_grad_(False)
        self.hidden = torch.zeros(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        self.hidden = self.linear(x) + self.hidden / 2
        return self.hidden


class Slow(nn.Module):
    """Takes some 5 ms."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        y = torch.ones(256, 256)
        for _ in range(10):
            y = y @ y / 256
        return x + y[0, 0]


GROUP = {"options": {"in_turn": True}}


def measure(quick: bool) -> Findings:
    x = torch.ones(4, 8)
    # Eight on the owner run in turn. Of those that do not, one is called, by one caller at a time.
    stubs = {AT_ONCE: torchremote.create("owner", Layer, Recurrent, in_turn=False)}
    others = [torchremote.create("owner", Layer, Recurrent) for _ in range(7)]
    stubs[IN_TURN] = others[0]
    stateless = torchremote.create("owner", Layer, Linear)
    slow = torchremote.create("owner", Layer, Slow)
    blocks: dict[str, Block] = {}
    for name, stub in stubs.items():
        blocks[f"{name}: {ONE}"] = timed(lambda stub=stub: stub(x))
        blocks[f"{name}: {BESIDE}"] = _beside(slow, x, timed(lambda stub=stub: stub(x)))
    # A module that changes itself would end its owner.
    for name, stub in ((AT_ONCE, stateless), (IN_TURN, others[0])):
        blocks[f"{name}: {MANY}"] = in_flight(stub, x, IN_FLIGHT, every=10)
    with torch.no_grad():
        rounds = interleave(blocks, 9 if quick else 25, calls=20 if quick else 50, warm_up=20)
    targets = [
        Target(f"{IN_TURN}: {ONE}", f"{AT_ONCE}: {ONE}", 1.6),
        Target(f"{IN_TURN}: {MANY}", f"{AT_ONCE}: {MANY}", 1.5),
    ]
    if native.available():  # without a strand for each module, a call waits for the slow one
        targets.append(Target(f"{IN_TURN}: {BESIDE}", f"{AT_ONCE}: {BESIDE}", 1.3))
    notes = ("The slow module, which also runs in turn, takes some 5 ms, and is called all the time.",)
    return Findings("Calls in turn, of eight modules on one owner", "us", 1e6, rounds, targets, notes=notes)


def _beside(slow: Any, x: Tensor, block: Block) -> Block:
    """Makes calls while somebody else calls `slow`."""

    def beside(calls: int) -> list[float]:
        with _repeating(lambda: slow(x)):
            return block(calls)

    return beside


@contextmanager
def _repeating(call: Callable[[], object]) -> Iterator[None]:
    stopped = threading.Event()

    def repeat() -> None:
        while not stopped.is_set():
            call()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
