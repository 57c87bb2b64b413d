"""How long does one call take, beside other systems? The same work as latency.py; one peer at a time is running."""

from __future__ import annotations

import torch

import torchremote

from . import peers
from .findings import OURS, Findings, Target
from .timing import Rounds, interleave, timed
from .work import Layer, Linear

BOUNDS = {"ray": 0.20, "monarch": 0.20, "grpc": 0.45}


def measure(quick: bool) -> Findings:
    x = torch.ones(4, 8)
    stub = torchremote.create("owner", Layer, Linear)
    rounds: Rounds = {}
    targets, left_out = [], {}
    with torch.no_grad():
        for name, shown in peers.NAMES.items():
            ours = f"{OURS}, beside {shown}"
            try:
                with peers.running(name) as peer:
                    blocks = {ours: timed(lambda: stub(x)), shown: peer("call")}
                    rounds |= interleave(blocks, rounds=7 if quick else 15, calls=50 if quick else 100, warm_up=200)
            except peers.Missing as missing:
                left_out[shown] = str(missing)
            if name in BOUNDS:
                targets.append(Target(ours, shown, BOUNDS[name]))
    return Findings("The same call through other systems", "us", 1e6, rounds, targets, left_out)
