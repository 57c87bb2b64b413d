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
from .group import in_group
from .timing import Block, interleave, timed
from .work import Layer, Linear

# Each has a worker to itself, so that they can be called in turn.
ALONE, CROWDED, LEARNED = "one module", "{:,} modules", "{:,} interfaces"
ARGUMENTS = (1, 16, 64)
DEPTHS = (1, 4, 8)


def measure(quick: bool) -> Findings:
    return in_group(_measure, quick, others=("alone", "crowded", "learned"))


def _measure(quick: bool) -> Findings:
    modules, interfaces = (10_000, 100) if quick else (100_000, 1_000)
    crowded, learned = CROWDED.format(modules), LEARNED.format(interfaces)
    rpc.rpc_sync("crowded", host_modules, (modules,))
    rpc.rpc_sync("learned", learn_interfaces, (interfaces,))
    x = torch.ones(4, 8)
    blocks: dict[str, Block] = {}
    for name, worker in ((ALONE, "alone"), (crowded, "crowded"), (learned, "learned")):
        stub = torchremote.create(worker, Layer, Linear)
        blocks[name] = timed(lambda stub=stub: stub(x))
    for count in ARGUMENTS:
        wide = torchremote.create("alone", *wide_interface(count))
        blocks[f"{count} arguments"] = timed(lambda wide=wide, count=count: wide(*[x] * count))
    for depth in DEPTHS:
        deep, value = torchremote.create("alone", *deep_interface(depth)), nested(x, depth)
        blocks[f"nested {depth} deep"] = timed(lambda deep=deep, value=value: deep(value))
    with torch.no_grad():
        found = interleave(blocks, rounds=9 if quick else 25, calls=50 if quick else 100, warm_up=200)
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
    for _ in range(count - 1):
        modules.add(contract, module, torch.device("cpu"))


def learn_interfaces(count: int) -> None:
    for number in range(count - 1):
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
