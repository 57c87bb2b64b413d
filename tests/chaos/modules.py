"""What is hosted in a round: interfaces, modules, and the scripted model through which callers call.

All numbers are whole and small, so that floats are exact and a value is right or wrong.
"""

from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor, nn

import torchremote as tr

WIDTH = 8


@tr.remote_scriptable
class Arithmetic:
    def forward(self, x: Tensor, factor: float = 2.0) -> Tensor: ...
    def spell(self, words: List[str], counts: Dict[str, int], x: Optional[Tensor] = None) -> Tuple[str, int]: ...
    def raising(self, message: str) -> Tensor: ...
    def slow(self, x: Tensor, rounds: int) -> Tensor: ...


@tr.remote_scriptable
class Adder:
    def add(self, n: int) -> Tensor: ...
    def total(self) -> Tensor: ...


@tr.remote_scriptable
class Log:
    def append(self, n: int) -> int: ...
    def items(self) -> List[int]: ...


class Scaling(nn.Module):
    """A plain module: its calls run at once."""

    def __init__(self, weight: float):
        super().__init__()
        self.weight = nn.Parameter(torch.full([WIDTH], float(weight)))

    def forward(self, x: Tensor, factor: float) -> Tensor:
        return x * self.weight * factor

    def spell(self, words: List[str], counts: Dict[str, int], x: Optional[Tensor]) -> Tuple[str, int]:
        count = len(words) if x is None else x.numel()
        for key in counts:
            count += counts[key]
        return " ".join(words), count

    def raising(self, message: str) -> Tensor:
        raise ValueError(message)

    def slow(self, x: Tensor, rounds: int) -> Tensor:
        for _ in range(rounds):
            x = x + 1
        return x


class Relay(nn.Module):
    """Calls another module, on the same owner or another one, and adds 1."""

    next: Arithmetic

    def __init__(self, next):
        super().__init__()
        self.next = next

    def forward(self, x: Tensor, factor: float) -> Tensor:
        return self.next.forward(x, factor) + 1

    def spell(self, words: List[str], counts: Dict[str, int], x: Optional[Tensor]) -> Tuple[str, int]:
        return self.next.spell(words, counts, x)

    def raising(self, message: str) -> Tensor:
        return self.next.raising(message)

    def slow(self, x: Tensor, rounds: int) -> Tensor:
        return self.next.slow(x, rounds)


class CountingRelay(Relay):
    """A relay that changes itself, before and after it waits: its calls run in turn."""

    def __init__(self, next):
        super().__init__(next)
        self.begun = 0
        self.ended = torch.zeros(1)

    def forward(self, x: Tensor, factor: float) -> Tensor:
        self.begun += 1
        y = self.next.forward(x, factor) + 1
        self.ended = self.ended + 1
        return y


class Adding(nn.Module):
    """Adds up what it gets, in two attributes that have to agree. What is below 0 raises, and is not added."""

    def __init__(self):
        super().__init__()
        self.sum = 0
        self.hidden = torch.zeros(WIDTH, dtype=torch.long)

    def add(self, n: int) -> Tensor:
        if n < 0:
            raise ValueError("below zero")
        self.sum += n
        self.hidden = self.hidden + n
        return self.total()

    def total(self) -> Tensor:
        return torch.cat([self.hidden, torch.tensor([self.sum])])


class Logging(nn.Module):
    """Appends what it gets to a list."""

    list: List[int]

    def __init__(self):
        super().__init__()
        self.list = []

    def append(self, n: int) -> int:
        self.list.append(n)
        return len(self.list)

    def items(self) -> List[int]:
        return self.list


class Model(nn.Module):
    """A scripted model of a caller: one call that waits, others in flight meanwhile."""

    arithmetic: tr.remote_interface(Arithmetic)
    adder: tr.remote_interface(Adder)

    def __init__(self, arithmetic, adder):
        super().__init__()
        self.arithmetic = arithmetic
        self.adder = adder

    def forward(self, x: Tensor, factor: float, n: int) -> Tuple[Tensor, Tensor]:
        scaled = self.arithmetic.forward_async(x, factor)
        added = self.adder.add(n)
        return scaled.wait(), added

    @torch.jit.export
    def many(self, x: Tensor, factor: float, count: int) -> List[Tensor]:
        calls = [(x, factor) for _ in range(count)]
        return self.arithmetic.forward_many(calls)


def failing_to_build():
    raise LookupError("told to fail")
