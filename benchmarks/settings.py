"""Which settings of RPC are fast, for which size of tensor? Groups with each of them take turns.

TensorPipe chooses one channel for a connection, whatever is sent: the first one of `_channels` that works between the
two workers. "basic" has tensors go in the stream of messages. torch's own order is "cma" (the receiver reads the
sender's memory, on one machine alone), "mpt_uv" (several TCP connections at once), "basic".
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

import torchremote

from .findings import Findings
from .group import in_group
from .timing import Rounds, interleave, timed
from .work import Echo, Layer, Linear

KIB = 1 << 10
SIZES = {"4 KiB": 4 * KIB, "64 KiB": 64 * KIB, "256 KiB": 256 * KIB} | {
    f"{mib} MiB": mib * KIB * KIB for mib in (1, 4, 16, 64, 256)
}
# Those that are measured with every size, and how rpc_options is called for it.
SHARED, TCP = "shared memory", "TCP"
CHANNELS: dict[str, dict[str, object]] = {
    f"{SHARED}, rpc_options()": {},
    f"{SHARED}, cma": {"_channels": None},
    f"{SHARED}, mpt_uv": {"_channels": ["mpt_uv", "basic"]},
    f"{TCP}, rpc_options()": {"shared_memory": False},
    f"{TCP}, cma": {"shared_memory": False, "_channels": None},
    f"{TCP}, mpt_uv": {"shared_memory": False, "_channels": ["mpt_uv", "basic"]},
}
THREADS: dict[str, dict[str, object]] = {f"{threads} threads": {"threads": threads} for threads in (2, 16, 64)}
ECHO, ONE_WAY = "echo", "one way"


class Sink(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(1)


def measure(quick: bool) -> Findings:
    found: Rounds = {}
    for _ in range(2 if quick else 9):
        for settings, measured in ((CHANNELS, _sizes), (THREADS, _threads)):
            for name, options in settings.items():
                for contender, rounds in in_group(partial(measured, name), quick, options=options).items():
                    found.setdefault(contender, []).extend(rounds)
    return Findings("A call with one tensor, by its size and the settings of RPC", "us", 1e6, found)


def contender(name: str, direction: str, size: str) -> str:
    return f"{name}: {direction}, {size}"


def _sizes(name: str, quick: bool) -> Rounds:
    found: Rounds = {}
    for direction, module_cls in ((ECHO, Echo), (ONE_WAY, Sink)):
        stub = torchremote.create("owner", Layer, module_cls)
        for size, count in SIZES.items():
            calls = max(2, min(200, (64 << 20) // count))
            x = torch.ones(count // 4)
            with torch.no_grad():
                block = {contender(name, direction, size): timed(partial(stub, x))}
                found |= interleave(block, rounds=1, calls=calls, warm_up=2 + calls // 4)
    return found


def _threads(name: str, quick: bool) -> Rounds:
    x, stub = torch.ones(4, 8), torchremote.create("owner", Layer, Linear)
    with torch.no_grad():
        return interleave({name: timed(lambda: stub(x))}, rounds=1, calls=500, warm_up=200)
