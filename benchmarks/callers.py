"""How many calls a second does one owner answer, to four processes that call it one call after the other?"""

from __future__ import annotations

import time

import torch
import torch.distributed.rpc as rpc
from torch import nn

import torchremote

from .findings import OURS, Findings, Target
from .timing import Rounds
from .work import TORCH, Layer, Linear, torch_scripted

CALLERS = tuple(f"caller{number}" for number in range(4))


GROUP = {"others": ("owner", *CALLERS)}


def measure(quick: bool) -> Findings:
    found: Rounds = {OURS: [], TORCH: []}
    for caller in CALLERS:
        rpc.rpc_sync(caller, prepare)
    calls = 100 if quick else 200
    for _ in range(7 if quick else 25):
        for name, values in found.items():
            futures = [rpc.rpc_async(caller, make_calls, (name, calls)) for caller in CALLERS]
            # Of the while in which all of them were calling.
            spans = torch.futures.wait_all(futures)
            values.append([len(CALLERS) * calls / (max(end for _, end in spans) - min(start for start, _ in spans))])
    return Findings("Four callers, one owner", "calls/s", 1, found, (Target(OURS, TORCH, 1.5, at_least=True),))


_modules: dict[str, nn.Module] = {}


def prepare() -> None:
    _modules[OURS] = torchremote.create("owner", Layer, Linear)
    _modules[TORCH] = torch_scripted("owner", Linear)
    for name in _modules:
        make_calls(name, 50)


def make_calls(name: str, calls: int) -> tuple[float, float]:
    x, module = torch.ones(4, 8), _modules[name]
    with torch.no_grad():
        start = time.monotonic()
        for _ in range(calls):
            module.forward(x)
        return start, time.monotonic()
