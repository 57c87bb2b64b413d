"""What does an owner gain that gathers calls: with 64 in flight, from TorchScript and from Python, and with one?"""

import time
from collections.abc import Callable
from typing import Any, List

import torch
from torch import Tensor, nn
from torch.futures import Future

import torchremote

from .findings import OURS, Findings, Target
from .timing import Block, interleave

WIDTH = 1024
IN_FLIGHT = 64
MANY, PYTHON, ONE = f"{IN_FLIGHT} in flight", f"{IN_FLIGHT} in flight, from Python", "one in flight"
GATHERED, PLAIN = f"{OURS}, gathered", f"{OURS}, not gathered"


@torchremote.remote_scriptable
class Rows:
    @torchremote.batched(0)
    def forward(self, x: Tensor) -> Tensor: ...


class Network(nn.Module):
    """[n, 1024] float32 -> [n, 1024] float32, by way of 2,048. It is not trained."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        wide = nn.Linear(WIDTH, 2 * WIDTH)
        self.layers = nn.Sequential(wide, nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH)).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Window(nn.Module):
    """Makes calls of one row, so many of them under way at once."""

    remote: torchremote.remote_interface(Rows)  # type: ignore[valid-type]

    def __init__(self, remote: nn.Module) -> None:
        super().__init__()
        self.remote = remote

    def forward(self, x: Tensor, calls: int, depth: int) -> Tensor:
        futures: List[Future[Tensor]] = []
        for number in range(calls + depth):
            if number >= depth:
                x = futures[number - depth].wait()
            if number < calls:
                futures.append(self.remote.forward_async(x))
        return x


def from_python(stub: Any, x: Tensor, calls: int) -> None:
    """Does what `Window` does, with `IN_FLIGHT` calls."""
    futures: list[Future[Tensor]] = []
    for number in range(calls + IN_FLIGHT):
        if number >= IN_FLIGHT:
            futures[number - IN_FLIGHT].wait()
        if number < calls:
            futures.append(stub.forward_async(x))


def measure(quick: bool) -> Findings:
    x = torch.randn(1, WIDTH)
    stubs = {
        PLAIN: torchremote.create("owner", Rows, Network),
        GATHERED: torchremote.create("owner", Rows, Network, gather=IN_FLIGHT),
    }
    blocks: dict[str, Block] = {}
    for name, stub in stubs.items():
        window = torch.jit.script(Window(stub))
        blocks[f"{name}: {MANY}"] = rate(lambda calls, window=window: window(x, calls, IN_FLIGHT), 10)
        blocks[f"{name}: {PYTHON}"] = rate(lambda calls, stub=stub: from_python(stub, x, calls), 10)
        blocks[f"{name}: {ONE}"] = rate(lambda calls, window=window: window(x, calls, 1), 1)
    with torch.no_grad():
        rounds = interleave(blocks, 9 if quick else 25, calls=60 if quick else 150, warm_up=30)
    targets = (
        Target(f"{GATHERED}: {MANY}", f"{PLAIN}: {MANY}", 2, at_least=True),
        Target(f"{GATHERED}: {ONE}", f"{PLAIN}: {ONE}", 0.85, at_least=True),
    )
    notes = (f"A network of {WIDTH}, {2 * WIDTH}, {WIDTH}, one row a call.",)
    return Findings("Gathered calls", "calls/s", 1, rounds, targets, notes=notes)


def rate(work: Callable[[int], object], times: int) -> Block:
    """Returns how many calls a second `work` makes. It makes so many times the calls that it is asked for."""

    def block(calls: int) -> list[float]:
        start = time.perf_counter()
        work(times * calls)
        return [times * calls / (time.perf_counter() - start)]

    return block
