"""Has AOTInductor compile captured graphs, and runs the packages.

Note [What a package is right for]
    A package compares nothing with what it was compiled for. With a tensor of another size, dtype, device or order in
    memory it reads what is not there, or returns a wrong value. So a compiled module compares arguments as an exported
    one does. Besides, AOTInductor assumes more of sizes while it compiles, such as that a sum is short enough to be
    summed in one go; torch leaves that out. Here, these conditions join those of the export.

    A package is code, and its constants are part of it. What a call changes of them is lost, so a graph that changes a
    buffer is refused, as is one that changes an argument.
"""

from __future__ import annotations

import os
import re
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

from ... import _torch, native
from ...errors import CreationError
from ..lower import ir
from ..lower.names import Names
from .capture import Captured, Finish
from .nodes import value_of

_SYMBOL: Final = re.compile(r"\b[a-z]+\d+\b")


def _compile(captured: Captured, where: str) -> Captured:
    """Returns a graph with its package, and with what AOTInductor assumed.

    Raises:
        CreationError: AOTInductor cannot compile it, or would lose what it does.
    """
    known = _torch.assumed_of(captured.program)
    _check(captured, where)
    device = _device(captured, where)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.pt2")
        try:
            _torch.compile_ahead(captured.program, path)
        except Exception as error:  # AOTInductor may raise anything
            first = next(iter(str(error).strip().splitlines()), "")
            raise CreationError(
                f"{where}: AOTInductor cannot compile it: {type(error).__name__}: {first}; host it with exported(), "
                "which has TorchScript run the same graph"
            ) from error
        _check_libraries(path, where)
        archive = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
    sources = _sources(captured)
    assumed = [one for one in _torch.assumed_of(captured.program) if one not in known and _SYMBOL.search(one)]
    guards = [_SYMBOL.sub(lambda found: sources.get(found[0], found[0]), one) for one in assumed]
    package = native.package(archive, str(device))
    return replace(captured, guards=(*captured.guards, *guards), package=package, device=device)


RUN_BY_AOTINDUCTOR: Final = Finish(_compile, takes_integers=False)


def run_package(
    captured: Captured, package: ir.Expression, inputs: Sequence[ir.Expression], names: Names, into: list[ir.Statement]
) -> list[ir.Expression]:
    """Adds the statement that runs a package. Returns what its outputs are."""
    name = names.fresh("results")
    into.append(ir.Assign((name,), ir.called(package, "run", ir.ListOf(tuple(inputs)))))
    output = next(node for node in captured.program.graph.nodes if node.op == "output")
    results: list[ir.Expression] = []
    for place, value in enumerate(output.args[0]):
        known = value_of(value)
        result: ir.Expression = ir.Item(ir.Name(name), place)
        for symbolic, kind in _NUMBERS.items():
            if isinstance(known, symbolic):
                result = ir.call(kind, ir.called(result, "item"))
        results.append(result)
    return results


_NUMBERS: Final = {torch.SymInt: "int", torch.SymFloat: "float", torch.SymBool: "bool"}


def _check_libraries(path: Path, where: str) -> None:
    """Raises CreationError if a package has a copy of the C++ library in it.

    That has other numbers for the parts of a locale than the one that torch loaded. So the process would end when the
    package is loaded.
    """
    with zipfile.ZipFile(path) as package:
        for name in package.namelist():
            if name.endswith(".so") and not any(one in package.read(name) for one in (b"libstdc++.so", b"libc++.so")):
                raise CreationError(
                    f"{where}: {os.environ.get('CXX', 'g++')} links a C++ library of its own into what it compiles, "
                    "which ends the process that loads it; set CXX to a compiler that links libstdc++.so, as the "
                    "system's g++ does"
                )


def _check(captured: Captured, where: str) -> None:
    """Raises CreationError if a package would lose what the graph does, or take the GIL."""
    # Traced again, a tensor that is changed in place is an output.
    for spec in _torch.decompose(captured.program).graph_signature.output_specs:
        if spec.kind.name != "USER_OUTPUT":
            what = "its buffer" if "BUFFER" in spec.kind.name else "its argument"
            raise CreationError(
                f"{where}: it changes {what} {spec.target}, which a compiled module would lose; host it with exported()"
            )
    for node in _nodes(captured.program.graph_module):
        if isinstance(node.target, _torch.OpOverload) and _torch.has_python_kernels(node.target):
            raise CreationError(
                f"{where}: its graph has the operator {node.target.name()}, which is written in Python and takes the "
                "GIL; register it in C++, or leave it out of the method"
            )
    for name, value in zip(captured.inputs, captured.leaves, strict=True):
        if not isinstance(value, torch.Tensor):
            raise CreationError(
                f"{where}: {name} is a number of any value, which AOTInductor does not take; make it a tensor, or give "
                "an example or a program for each value"
            )
        if not value.is_contiguous():
            raise CreationError(f"{where}: {name} is not contiguous in the example; give one that is")


def _nodes(graph_module: Any) -> Iterator[torch.fx.Node]:
    for part in graph_module.modules():
        if isinstance(part, torch.fx.GraphModule):
            yield from part.graph.nodes


def _device(captured: Captured, where: str) -> torch.device:
    """Returns the device of all tensors of a graph. A package has one."""
    found = {
        value.device
        for node in captured.program.graph.find_nodes(op="placeholder")
        if isinstance(value := value_of(node), torch.Tensor)
    }
    if len(found) > 1:
        listed = ", ".join(sorted(map(str, found)))
        raise CreationError(f"{where}: its tensors are on {listed}, and a package runs on one device; move them to one")
    return found.pop() if found else torch.device("cpu")


def _sources(captured: Captured) -> dict[str, str]:
    """Returns, for each symbol of the graph, an expression of `captured.guards` for it."""
    paths = {index: path for path, index in captured.paths.items()}
    found: dict[str, str] = {}
    for index, value in enumerate(captured.leaves):
        for dimension, size in enumerate(value.shape):
            found.setdefault(str(size), f"{paths[index]}.size()[{dimension}]")
    return found
