"""Which settings of RPC make calls fast? Each has a group of its own, and the groups take turns."""

from __future__ import annotations

from functools import partial

import torch

import torchremote

from .findings import Findings
from .group import in_group
from .timing import Rounds, interleave, timed
from .work import Layer, Linear

SETTINGS: dict[str, dict[str, object]] = {
    "rpc_options()": {},
    "torch's channels": {"_channels": None},
    "2 threads": {"threads": 2},
    "64 threads": {"threads": 64},
    "TCP alone": {"_transports": ["uv"]},
    "TCP alone, torch's channels": {"_transports": ["uv"], "_channels": ["mpt_uv"]},
}


def measure(quick: bool) -> Findings:
    found: Rounds = {name: [] for name in SETTINGS}
    for _ in range(2 if quick else 7):
        for name, settings in SETTINGS.items():
            found[name] += in_group(partial(_measure, name), quick, options=settings)[name]
    return Findings("Settings of RPC: one call of [4, 8] float32 through a Linear(8, 8)", "us", 1e6, found)


def _measure(name: str, quick: bool) -> Rounds:
    x, stub = torch.ones(4, 8), torchremote.create("owner", Layer, Linear)
    with torch.no_grad():
        return interleave({name: timed(lambda: stub(x))}, rounds=1, calls=500, warm_up=200)
