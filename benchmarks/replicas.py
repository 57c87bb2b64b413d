"""What does a call cost that goes to one of several replicas, beside one through a stub?"""

from __future__ import annotations

import torch
import torch.distributed.rpc as rpc

import torchremote

from .findings import Findings, Target
from .timing import interleave, timed
from .work import Layer, Linear

OWNERS = ("owner", "second", "third")
ONE, OF_ONE, OF_THREE = "a stub", "one replica", "three replicas"


# Over TCP: in shared memory, four processes would look for messages, on few cores.
GROUP = {"others": OWNERS, "options": {"shared_memory": False}}


def measure(quick: bool) -> Findings:
    for owner in OWNERS:
        rpc.rpc_sync(owner, serve)
    x = torch.ones(4, 8)
    # Whichever owner the replicas call first, the others call the same one.
    replicas = torchremote.connect(OWNERS, Layer, "layer")
    called = replicas.forward_async(x)
    (owner,) = (one for one in OWNERS if f"{one} (1 in flight)" in repr(replicas))
    called.wait()
    stub = torchremote.connect(owner, Layer, "layer")
    one = torchremote.connect([owner], Layer, "layer")
    blocks = {ONE: timed(lambda: stub(x)), OF_ONE: timed(lambda: one(x)), OF_THREE: timed(lambda: replicas(x))}
    with torch.no_grad():
        rounds = interleave(blocks, rounds=25 if quick else 150, calls=100, warm_up=200)
    targets = (Target(OF_ONE, ONE, 1.03), Target(OF_THREE, ONE, 1.03))
    return Findings("Replicas: a call of [4, 8]", "us", 1e6, rounds, targets)


def serve() -> None:
    torchremote.serve(Linear(), Layer, "layer")
