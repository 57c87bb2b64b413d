"""What does a call cost with more modules, more interfaces, more arguments, deeper types?"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed.rpc as rpc
from torch import Tensor

import torchremote
from torchremote.jit import compile_interface
from torchremote.owner import modules

from .findings import Findings, Target
from .timing import Block, Rounds, interleave, timed
from .work import Layer, Linear

# Each has a worker to itself, so that they can be called in turn.
ALONE, CROWDED, LEARNED = "one module", "{:,} modules", "{:,} interfaces"
# How many modules and interfaces there are, one after the other: none of them can be taken away again.
STAGES = ((100, 10), (1_000, 30), (10_000, 100), (100_000, 1_000))
QUICK_STAGES = ((10_000, 100),)
ARGUMENTS = (1, 4, 16, 32, 64)
DEPTHS = (1, 2, 4, 6, 8)


# Over TCP. In shared memory, four processes would look for messages on two cores, and whether one has a core to
# itself would decide how long its calls take.
GROUP = {"others": ("alone", "crowded", "learned"), "options": {"shared_memory": False}}


def measure(quick: bool) -> Findings:
    x = torch.ones(4, 8)
    calls = {}
    for worker in ("alone", "crowded", "learned"):
        stub = torchremote.create(worker, Layer, Linear)
        calls[worker] = timed(lambda stub=stub: stub(x))
    rounds, calls_each = (9, 50) if quick else (25, 100)
    found: Rounds = {}
    had = (1, 1)
    stages = QUICK_STAGES if quick else STAGES
    for stage in stages:
        rpc.rpc_sync("crowded", host_modules, (stage[0] - had[0],))
        rpc.rpc_sync("learned", learn_interfaces, (had[1], stage[1]))
        had = stage
        crowded, learned = CROWDED.format(stage[0]), LEARNED.format(stage[1])
        blocks: dict[str, Block] = {ALONE: calls["alone"], crowded: calls["crowded"], learned: calls["learned"]}
        if stage != stages[-1]:  # the last one is measured below, with all else
            with torch.no_grad():
                found |= interleave(blocks, rounds, calls_each, warm_up=200)
    for count in ARGUMENTS:
        wide = torchremote.create("alone", *wide_interface(count))
        blocks[f"{count} arguments"] = timed(lambda wide=wide, count=count: wide(*[x] * count))
    for depth in DEPTHS:
        deep, value = torchremote.create("alone", *deep_interface(depth)), nested(x, depth)
        blocks[f"nested {depth} deep"] = timed(lambda deep=deep, value=value: deep(value))
    with torch.no_grad():
        found |= interleave(blocks, rounds, calls_each, warm_up=200)
    targets = (
        Target(crowded, ALONE, 1.1),
        Target(learned, ALONE, 1.1),
        Target("64 arguments", "16 arguments", 4.0),
        Target("nested 8 deep", "nested 4 deep", 2.0),
    )
    return Findings("Growth: a call of [4, 8] tensors", "us", 1e6, found, targets)


# -- on the workers

_kept: list[object] = []


def host_modules(count: int) -> None:
    contract = compile_interface(Layer).contract
    module = torch.jit.script(Linear())
    for _ in range(count):
        modules.add(contract, module, torch.device("cpu"))


def learn_interfaces(start: int, stop: int) -> None:
    for number in range(start, stop):
        _kept.append(written(f"Learned{number}", f"x{number}: Tensor"))
        compile_interface(_kept[-1])  # type: ignore[arg-type]


# -- interfaces of any size


def written(name: str, arguments: str) -> type:
    namespace: dict[str, Any] = {"Tensor": Tensor, "List": list}
    exec(f"def forward(self, {arguments}) -> Tensor: ...", namespace)
    return type(name, (), {"forward": namespace["forward"], "__module__": __name__})


def wide_interface(count: int) -> tuple[type, Any, tuple[str, str]]:
    arguments = ", ".join(f"x{number}: Tensor" for number in range(count))
    return written(f"Wide{count}", arguments), defined, (arguments, "x0")


def deep_interface(depth: int) -> tuple[type, Any, tuple[str, str]]:
    arguments = f"x: {'List[' * depth}Tensor{']' * depth}"
    return written(f"Deep{depth}", arguments), defined, (arguments, f"x{'[0]' * depth}")


def nested(x: Any, depth: int) -> Any:
    return nested([x], depth - 1) if depth else x


def defined(arguments: str, result: str) -> torch.jit.ScriptModule:
    module = type("Defined", (torch.jit.ScriptModule,), {})()
    module.define(f"def forward(self, {arguments}) -> Tensor:\n    return {result}\n")
    return module
