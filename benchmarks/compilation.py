"""How long does it take to compile an interface?"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch.distributed.nn.jit import instantiator

from torchremote import native
from torchremote.jit import compile_interface
from torchremote.jit.owner_units import host_at_once

from .findings import Findings, Target
from .group import quiet
from .timing import Rounds, timed

ONE, TEN, HUNDRED = (f"torchremote, a method of {count}" for count in (1, 10, 100))
HOSTING = f"{HUNDRED}, what its owner compiles later"
HIT, TORCH = "torchremote, compiled already", "torch's instantiator, one method"
LIMIT = "20 us"
METHODS = {ONE: 1, TEN: 10, HUNDRED: 100}
GROUP = None  # it starts processes of its own


def measure(quick: bool) -> Findings:
    os.environ[native.SWITCH] = "0"
    # In a process of its own: TorchScript never forgets.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (quick,))


def _measure(quick: bool) -> Findings:
    quiet()
    rounds = 7 if quick else 15
    interfaces, methods = _interfaces(rounds + 1), {**METHODS, HOSTING: 100}
    found: Rounds = {name: [] for name in (*METHODS, HOSTING, HIT, TORCH, LIMIT)}
    for number in range(rounds + 1):
        theirs = partial(instantiator.instantiate_scriptable_remote_module_template, interfaces[f"T_{number}"], False)
        calls: dict[str, Callable[[], object]] = {
            **{name: partial(compile_interface, interfaces[f"I{METHODS[name]}_{number}"]) for name in METHODS},
            HOSTING: partial(_host, interfaces[f"I100_{number}"]),
            HIT: partial(compile_interface, interfaces[f"I10_{number}"]),
            TORCH: theirs,
        }
        for name, call in calls.items():
            (seconds,) = timed(call)(1)
            if number:  # the first compiles what all interfaces share
                found[name].append([seconds / methods.get(name, 1)])
        if number:
            found[LIMIT].append([20e-6])
    targets = (
        Target(HUNDRED, TEN, 1.0),
        Target(HUNDRED, TORCH, 2.5),
        Target(HIT, LIMIT, 1.0),
    )
    return Findings("Compiling an interface, for each of its methods", "ms", 1e3, found, targets)


def _host(interface: type) -> None:
    """Compiles what an owner needs beside the rest when it hosts the first module of an interface."""
    host_at_once(compile_interface(interface).contract)


def _interfaces(count: int) -> dict[str, type]:
    """Classes in a file, which torch's instantiator needs; none of two has the same signatures."""
    source = "import torch\nfrom torch import Tensor\n"
    for number in range(count):
        source += f"\n\n@torch.jit.interface\nclass T_{number}:\n"
        source += f"    def forward(self, x{number}: Tensor, scale: float) -> Tensor:\n        pass\n"
        for methods in METHODS.values():
            source += f"\n\nclass I{methods}_{number}:\n"
            for method in range(methods):
                source += f"    def m{method}(self, x{number}: Tensor, scale: float) -> Tensor: ...\n"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "compiled_interfaces.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
        return vars(module)
