"""How long does a call take while two threads keep the owner's Python busy?"""

from __future__ import annotations

import threading

import torch
import torch.distributed.rpc as rpc

import torchremote

from .findings import OURS, Findings, Target
from .timing import Rounds, interleave, timed
from .work import TORCH, TORCH_PYTHON, Layer, Linear, torch_python, torch_scripted

IDLE = f"{OURS}, owner idle"
TARGETS = (
    Target(OURS, TORCH_PYTHON, 0.02),
    Target(OURS, TORCH_PYTHON, 0.1, statistic="p99"),
    Target(OURS, IDLE, 1.25),
)


def measure(quick: bool) -> Findings:
    x = torch.ones(4, 8)
    stub = torchremote.create("owner", Layer, Linear)
    scripted, python = torch_scripted("owner", Linear), torch_python("owner", Linear)
    found: Rounds = {}
    with torch.no_grad():
        fast = {OURS: timed(lambda: stub(x)), TORCH: timed(lambda: scripted.forward(x))}
        interleave(fast, rounds=1, calls=1, warm_up=200)
        for _ in range(7 if quick else 15):
            idle = interleave({IDLE: fast[OURS]}, rounds=1, calls=100, warm_up=300)
            rpc.rpc_sync("owner", start_being_busy)
            # A machine with few cores takes some tenths of a second to spread what has begun to run.
            busy = interleave(fast, rounds=1, calls=100, warm_up=300)
            busy |= interleave({TORCH_PYTHON: timed(lambda: python.forward(x))}, rounds=1, calls=10, warm_up=1)
            rpc.rpc_sync("owner", stop_being_busy)
            for name, values in (idle | busy).items():
                found.setdefault(name, []).extend(values)
    return Findings("The owner's Python busy in two threads", "us", 1e6, found, TARGETS)


_busy = threading.Event()
_threads: list[threading.Thread] = []


def start_being_busy() -> None:
    def work() -> None:
        while _busy.is_set():
            sum(range(1000))

    _busy.set()
    _threads.extend(threading.Thread(target=work) for _ in range(2))
    for thread in _threads:
        thread.start()


def stop_being_busy() -> None:
    _busy.clear()
    while _threads:
        _threads.pop().join()
