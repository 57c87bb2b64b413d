"""Calls torch.export, and reads what it assumed."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch.fx.experimental._config
import torch.library
from torch import nn
from torch.export import Dim
from torch.export import exported_program as _exported_program
from torch.fx.experimental.proxy_tensor import make_fx

_QUIET = (
    "torch._export.non_strict_utils",
    "torch.fx.experimental.symbolic_shapes",
    "torch.export._trace",
    "torch._subclasses.fake_tensor",
)


def any_size(leaf: Any) -> Any:
    """Returns the hint that a number, or every dimension of a tensor, is as dynamic as torch.export finds it."""
    if isinstance(leaf, torch.Tensor):
        return dict.fromkeys(range(leaf.dim()), Dim.AUTO)
    return Dim.AUTO if isinstance(leaf, int) else None


def are_hints(shapes: list[Any]) -> bool:
    """Says whether no dimension is named, so that none has limits of its user's."""
    listed = [one for shape in shapes for one in (shape.values() if isinstance(shape, dict) else [shape])]
    return all(one is None or isinstance(one, (int, type(Dim.AUTO))) for one in listed)


def export_program(
    module: nn.Module, leaves: list[Any], shapes: list[Any], hinted: bool, gradients: bool = True
) -> Any:
    """Exports a module whose forward takes `*leaves`.

    Args:
        leaves: the example of each argument.
        shapes: for each, which of its dimensions are dynamic, as torch.export takes it.
        hinted: the dynamic dimensions are hints. Then sizes of 0 and 1 are tried as sizes like any other. Without,
            torch.export makes a dimension of at least 2 of every one that is larger than 1 in the example.
        gradients: exports with gradients on.
    """
    arguments = tuple(leaves)
    dynamic = {"leaves": tuple(shapes)} if leaves else None
    with undisturbed(), torch.set_grad_enabled(gradients):
        if hinted:
            # It fails for some methods that torch.export captures otherwise: a slice up to a size, say. If it captures
            # them no other way, its second error is the one to read.
            with contextlib.suppress(Exception), _oblivious():
                return torch.export.export(module, arguments, dynamic_shapes=dynamic, strict=False)
        return torch.export.export(module, arguments, dynamic_shapes=dynamic, strict=False)


def _oblivious() -> Any:
    config: Any = torch.fx.experimental._config
    return config.patch(backed_size_oblivious=True)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Has torch trace in the same way whatever the caller has set, and say nothing of it.

    Gradients are on, inference mode is off, warnings are hidden, and other threads take no part.
    """
    loggers = [logging.getLogger(name) for name in _QUIET]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.inference_mode(False), torch.enable_grad(), _in_this_thread():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _in_this_thread() -> Iterator[None]:
    """Has other threads not take part in an export: while one runs, torch refuses what is scripted, in all threads.

    torch asks `is_exporting` when Python calls a scripted function. But that only says whether any thread exports.
    """
    here, is_exporting = threading.get_ident(), torch.compiler.is_exporting
    torch.compiler.is_exporting = lambda: threading.get_ident() == here and is_exporting()
    try:
        yield
    finally:
        torch.compiler.is_exporting = is_exporting


def guards_of(program: Any) -> tuple[str, ...]:
    """Returns what torch.export assumed of the arguments' sizes, as conditions in Python."""
    return tuple(program._guards_code)


def decompose(program: Any) -> Any:
    """Traces a program again, below the dispatch of vmap and autocast. Operators stay whole."""
    with undisturbed():
        return program.run_decompositions({})


OpOverload: Any = torch._ops.OpOverload
HigherOrderOperator: Any = torch._ops.HigherOrderOperator
"""The classes of the operators in a graph. One of the second class takes parts of the graph as arguments."""


def operator_schema(operator: Any) -> Any:
    """Returns the schema of an `OpOverload`."""
    return operator._schema


def changes_first(operator: Any) -> bool:
    """Says whether an operator changes its first argument in place, and returns it."""
    if not isinstance(operator, OpOverload):
        return False
    schema = operator_schema(operator)
    first = schema.arguments[0].alias_info if schema.arguments else None
    return first is not None and first.is_write and len(schema.returns) == 1


def has_python_kernels(operator: Any) -> bool:
    """Says whether an operator of another library is computed by Python."""
    name = operator_schema(operator).name
    if operator.namespace in ("aten", "prims", "prim"):
        return False
    if name in torch._library.custom_ops.OPDEFS:
        return True
    space, _, short = name.partition("::")
    registered = {key.rpartition("/") for key in torch.library._impls if key.startswith(f"{space}/{short}")}
    overloads = {short, f"{short}.{operator._overloadname}"}
    return any(head == f"{space}/{one}" and key not in ("Meta", "") for head, _, key in registered for one in overloads)


def _whole_operators() -> Any:
    """Makes tracing keep operators that torch composes of others, such as linear, as exporting does."""
    composed, _ = _exported_program._split_decomp_table_to_cia_and_python_decomp({})
    return _exported_program._override_composite_implicit_decomp(composed)


def with_casts(region: Any, operands: list[Any], device: str, dtype: torch.dtype | None) -> Any:
    """Traces the graph of an autocast region again, under autocast and below it, so that it has the casts.

    Without gradients: with them, the trace would detach what autograd keeps.
    """
    fake: Any = next(getattr(one, "fake_mode") for one in operands if isinstance(one, torch.Tensor))  # noqa: B009

    def run(*given: Any) -> Any:
        with torch.autocast(device, dtype, enabled=True, cache_enabled=False):
            return region(*given)

    with undisturbed(), torch.no_grad(), fake, _whole_operators():
        return make_fx(run, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*operands)
