"""A transformer block that AOTInductor compiled, beside the scripted and the exported one: on an owner, and here."""

from __future__ import annotations

import torch

import torchremote

from .exported import EXPORTED, LOCAL_EXPORTED, LOCAL_SCRIPTED, SCRIPTED, Block
from .findings import Findings, Target
from .timing import Rounds, interleave, timed
from .work import Layer

COMPILED = "torchremote, compiled"
LOCAL_COMPILED = "compiled, here"
SIZES = (2, 64)
TARGETS = tuple(
    target
    for n in SIZES
    for target in (
        Target(f"{COMPILED}, {n}", f"{SCRIPTED}, {n}", 1.0),
        Target(f"{LOCAL_COMPILED}, {n}", f"{LOCAL_SCRIPTED}, {n}", 1.0),
    )
)


GROUP = {"native": True}


def measure(quick: bool) -> Findings:
    examples = {"forward": [(torch.randn(n, 16, 64),) for n in SIZES]}
    # A graph for each size, which is fixed: what differs in size is compiled again for 1.
    module = torchremote.compiled(Block(), Layer, examples, dynamic_shapes={"forward": [(None,)] * len(SIZES)})
    here = {
        LOCAL_COMPILED: module,
        LOCAL_EXPORTED: torchremote.exported(Block(), Layer, examples),
        LOCAL_SCRIPTED: torch.jit.script(Block()),
    }
    stubs = {
        COMPILED: torchremote.create("owner", Layer, module),
        EXPORTED: torchremote.create("owner", Layer, Block, examples=examples),
        SCRIPTED: torchremote.create("owner", Layer, Block),
    }
    found: Rounds = {}
    with torch.no_grad():
        for _ in range(7 if quick else 20):
            for n in SIZES:
                x = torch.randn(n, 16, 64)
                for contenders in (stubs, here):
                    blocks = {f"{name}, {n}": timed(lambda run=run, x=x: run(x)) for name, run in contenders.items()}
                    rounds = interleave(blocks, rounds=1, calls=20 if n > 2 else 50, warm_up=10)
                    for name, values in rounds.items():
                        found.setdefault(name, []).extend(values)
    return Findings("A transformer block that AOTInductor compiled, [n, 16, 64] float32", "us", 1e6, found, TARGETS)
