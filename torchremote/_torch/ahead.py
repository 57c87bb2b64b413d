"""Has AOTInductor compile exported programs, and reads what it assumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from .export import undisturbed


def compile_ahead(program: Any, path: Path) -> None:
    """Has AOTInductor compile a program into a package at `path`."""
    with undisturbed(), torch.no_grad():
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))


def assumed_of(program: Any) -> tuple[str, ...]:
    """Returns what was assumed of a program's symbols up to now, as conditions in Python.

    AOTInductor assumes more than the export. torch compares nothing with it: a package runs for all sizes.
    """
    from torch.utils._sympy.printers import PythonPrinter  # not on import: it imports sympy, which takes long

    for node in program.graph.nodes:
        value = node.meta.get("val") if node.op == "placeholder" else None
        if isinstance(value, torch.Tensor):
            env: Any = value.fake_mode.shape_env  # type: ignore[attr-defined]
            return tuple(str(PythonPrinter().doprint(env.simplify(guard.expr))) for guard in env.guards)
    return ()
