"""Calls torch.export, and reads what it assumed."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch.fx.experimental._config
import torch.library
from torch import nn
from torch._subclasses.fake_tensor import UnsupportedOperatorException
from torch.export import Dim

from ..errors import TorchRemoteError

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
    with undisturbed(), _without_partial_graphs(), _any_integers(shapes), torch.set_grad_enabled(gradients):
        if hinted:
            # It fails for some methods that torch.export captures otherwise: a branch of torch.cond if a size may be
            # 0, a slice up to a size. If it captures them no other way, its last error is the one to read.
            for least in (0, 1):
                try:
                    with _oblivious(least):
                        program = torch.export.export(module, arguments, dynamic_shapes=dynamic, strict=False)
                except TorchRemoteError:
                    raise
                except Exception:
                    continue
                if not any(".stride()" in guard for guard in guards_of(program)):  # no call can be compared with that
                    return program
        try:
            return torch.export.export(module, arguments, dynamic_shapes=dynamic, strict=False)
        except UnsupportedOperatorException:
            if not hinted:
                raise
            # torch runs such an operator on zeros, which it can if no size is open. An integer stays open.
            fixed = tuple(
                None if isinstance(leaf, torch.Tensor) else one for leaf, one in zip(leaves, shapes, strict=True)
            )
            return torch.export.export(module, arguments, dynamic_shapes={"leaves": fixed}, strict=False)


@contextlib.contextmanager
def _oblivious(least: int) -> Iterator[None]:
    """Has this thread's exports take a size for anything from `least`, 0 or 1, and note what a method asks of it.

    torch gives 0 as a size's least value, and yet tells sympy that the size is positive. So `size == 0` and
    `max(size, 1)` would be decided, without a guard. A size that may be 0 is not positive here, and any other is at
    least 1.
    """
    from torch.fx.experimental import symbolic_shapes  # only then, because it imports sympy

    config: Any = torch.fx.experimental._config
    environment: Any = symbolic_shapes.ShapeEnv
    here, create = threading.get_ident(), environment.create_symbol

    @functools.wraps(create)
    def create_any(self: Any, *given: Any, **named: Any) -> Any:
        if threading.get_ident() != here:
            return create(self, *given, **named)
        call = inspect.signature(create).bind(self, *given, **named)
        call.apply_defaults()
        is_size = call.arguments["positive"]
        if least == 0:
            call.arguments["positive"] = None
        symbol = create(*call.args, **call.kwargs)
        if is_size and isinstance(size := call.arguments["val"], int) and size < least:
            raise ValueError(f"a size of {size}")
        if is_size and symbol in self.var_to_range:
            self.constrain_symbol_range(symbol, compiler_min=least, compiler_max=symbolic_shapes.int_oo)
        return symbol

    environment.create_symbol = create_any
    try:
        with config.patch(backed_size_oblivious=True):
            yield
    finally:
        environment.create_symbol = create


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Has torch trace in the same way whatever the caller has set, and say nothing of it.

    Gradients are on, inference mode is off, warnings are hidden, and other threads take no part.
    """
    loggers = [logging.getLogger(name) for name in _QUIET]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), torch.inference_mode(False), torch.enable_grad(), _in_this_thread():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _without_partial_graphs() -> Iterator[None]:
    """Has torch.export not print the graph that it had when it failed, in this thread."""
    from torch.export import _trace  # only then, because it takes a while

    here, names = threading.get_ident(), vars(_trace)

    def show(*given: Any, **named: Any) -> None:
        if threading.get_ident() != here:
            print(*given, **named)

    names["print"] = show
    try:
        yield
    finally:
        del names["print"]


@contextlib.contextmanager
def _any_integers(shapes: list[Any]) -> Iterator[None]:
    """Has torch.export give integers the limits that the method asks for alone, in this thread.

    torch takes an integer for a size, which is not negative. So it refuses negative ones, or fails with one as example.

    Args:
        shapes: as for `export_program`.
    """
    from torch.export import _trace  # only then, because it takes a while

    here, names = threading.get_ident(), vars(_trace)
    make = names["make_constraints"]

    @functools.wraps(make)
    def make_of_sizes(fake_mode: Any, gm: Any, *others: Any) -> Any:
        hidden = {}
        if threading.get_ident() == here and shapes:
            inputs = gm.graph.find_nodes(op="placeholder")[-len(shapes) :]
            for node, hint in zip(inputs, shapes, strict=True):
                value = node.meta.get("val")
                if isinstance(value, torch.SymInt) and hint.min is None and hint.max is None:
                    hidden[node] = node.meta.pop("val")
        try:
            ranges = make(fake_mode, gm, *others)
        finally:
            for node, value in hidden.items():
                node.meta["val"] = value
        return ranges | {one.node.expr: fake_mode.shape_env.bound_sympy(one.node.expr) for one in hidden.values()}

    names["make_constraints"] = make_of_sizes
    try:
        yield
    finally:
        names["make_constraints"] = make


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


def ask_for_1(size: Any) -> None:
    """Compares a size with 1. One that only a call computes is not 1, or the call is refused."""
    from torch.fx.experimental.symbolic_shapes import has_free_unbacked_symbols  # only then, because it imports sympy

    if has_free_unbacked_symbols(size):
        torch._check(size != 1)
    else:
        bool(size == 1)


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


def operator_overloads(operator: Any) -> list[Any]:
    """Returns all overloads of the name that an `OpOverload` has."""
    packet = operator.overloadpacket
    return [getattr(packet, name) for name in packet.overloads()]


def changes_first(operator: Any) -> bool:
    """Says whether an operator changes its first argument in place, and returns it."""
    if not isinstance(operator, OpOverload):
        return False
    schema = operator_schema(operator)
    first = schema.arguments[0].alias_info if schema.arguments else None
    return first is not None and first.is_write and len(schema.returns) == 1


def changes_any(operator: Any) -> bool:
    """Says whether an `OpOverload` changes any of its arguments in place."""
    return any(one.alias_info is not None and one.alias_info.is_write for one in operator_schema(operator).arguments)


def has_python_kernels(operator: Any) -> bool:
    """Says whether an operator of another library runs Python."""
    return bool(_keys_in_python(operator_schema(operator).name, operator._overloadname))


def is_in_python(name: str, overload: str) -> bool:
    """Says whether an operator of another library, as "library::operator", is computed by Python.

    Those of torchvision are not: their gradients and casts are.
    """
    return any(not key.startswith(("Autograd", "Autocast")) for key in _keys_in_python(name, overload))


def _keys_in_python(name: str, overload: str) -> set[str]:
    """Returns the dispatch keys for which an operator has a kernel in Python, but for "Meta"."""
    space, _, short = name.partition("::")
    if space in ("aten", "prims", "prim", ""):
        return set()
    if name in torch._library.custom_ops.OPDEFS:
        return {"CompositeExplicitAutograd"}
    registered = {key.rpartition("/") for key in torch.library._impls if key.startswith(f"{space}/{short}")}
    overloads = {f"{space}/{short}", f"{space}/{short}.{overload}"}
    return {key for head, _, key in registered if head in overloads} - {"Meta", ""}
