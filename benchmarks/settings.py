"""Which settings of RPC make calls fast, with small tensors and with large? Groups with each take turns."""

from __future__ import annotations

from functools import partial

import torch

import torchremote

from .findings import Findings, Target
from .group import in_group
from .timing import Rounds, interleave, timed
from .work import Echo, Layer, Linear

SETTINGS: dict[str, dict[str, object]] = {
    "rpc_options()": {},
    "torch's channels": {"_channels": None},
    "2 threads": {"threads": 2},
    "64 threads": {"threads": 64},
    "TCP alone": {"shared_memory": False},
    # the one that torch uses between machines
    "TCP alone, torch's channel": {"shared_memory": False, "_channels": ["mpt_uv"]},
}


MIB = 64
TARGETS = (Target("rpc_options()", "torch's channels", 1.0), Target("TCP alone", "TCP alone, torch's channel", 1.0))


def measure(quick: bool) -> Findings:
    found: Rounds = {contender: [] for contender in (*SETTINGS, *map(large, SETTINGS))}
    for _ in range(2 if quick else 7):
        for name, settings in SETTINGS.items():
            for contender, rounds in in_group(partial(_measure, name), quick, options=settings).items():
                found[contender] += rounds
    question = f"Settings of RPC: a call of [4, 8] float32 through a Linear(8, 8), an echo of {MIB} MiB"
    return Findings(question, "us", 1e6, found, TARGETS)


def large(name: str) -> str:
    return f"{name}: {MIB} MiB"


def _measure(name: str, quick: bool) -> Rounds:
    x, stub = torch.ones(4, 8), torchremote.create("owner", Layer, Linear)
    much, echo = torch.ones(MIB << 18), torchremote.create("owner", Layer, Echo)
    with torch.no_grad():
        small = interleave({name: timed(lambda: stub(x))}, rounds=1, calls=500, warm_up=200)
        return small | interleave({large(name): timed(lambda: echo(much))}, rounds=1, calls=5, warm_up=2)
