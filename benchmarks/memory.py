"""How much memory does a hosted module cost its owner, and a stub its caller, beyond the module itself?"""

from __future__ import annotations

import gc
import resource

import torch
import torch.distributed.rpc as rpc

import torchremote
from torchremote.jit import compile_interface
from torchremote.owner import modules

from .findings import Findings, Target
from .timing import Rounds
from .work import Layer, Linear

HOSTED, STUB, LIMIT = "a hosted module", "a stub", "8 KiB"
PAGE = resource.getpagesize()


def measure(quick: bool) -> Findings:
    stub = torchremote.create("owner", Layer, Linear, name="one")
    found: Rounds = {HOSTED: [], STUB: [], LIMIT: []}
    count = 2000
    keep: list[object] = [torchremote.with_timeout(stub, 1.0) for _ in range(count)]  # what is allocated in advance
    for _ in range(7):
        before = resident()
        keep.append([torchremote.with_timeout(stub, 1.0) for _ in range(count)])
        found[STUB].append([(resident() - before) / count])
        found[HOSTED].append([rpc.rpc_sync("owner", hosted_bytes, (count,))])
        found[LIMIT].append([8192.0])
    targets = (Target(HOSTED, LIMIT, 1.0), Target(STUB, LIMIT, 1.0))
    return Findings("Memory beyond the module's own", "KiB", 1 / 1024, found, targets)


def resident() -> int:
    """Returns the memory that this process has, in bytes."""
    gc.collect()
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * PAGE


def hosted_bytes(count: int) -> float:
    """Returns what hosting one more module costs. They share one ScriptModule, whose own cost is not ours."""
    contract = compile_interface(Layer).contract
    module = torch.jit.script(Linear())
    before = resident()
    for _ in range(count):
        modules.add(contract, module, torch.device("cpu"))
    return (resident() - before) / count
