"""Captures one method of a module for one example: torch.export traces it, with dimensions as dynamic as it finds them.

Note [Sizes of 0 and 1]
    torch.export can see sizes in three ways. In one, a size may be anything, and a graph is right for 0 and 1 as for
    others, unless the method asks. It fails for some methods. In the second, a size is at least 1. In the third, one
    that is larger than 1 in the example is at least 2. The first that succeeds is taken. Where its graph is not right
    for 1, or not for 0 because the method asks, the method is traced again with that size, and a call takes the graph
    that is right for it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

import torch
from torch import nn

from ... import _torch
from ...errors import CreationError, TorchRemoteError
from ...tracebacks import has_users_line, shown_cause
from ..read.model import Method
from ..script.classes import Classes
from .assigned import check_apart
from .examples import read_example, read_shapes
from .nodes import value_of
from .reasons import ON_TRANSFORMS, reason_of
from .state import State
from .traced import MODULE, Call, Traced
from .values import Constant, Several, Tree
from .watching import GRAD_MODE, GRADIENT, MEMORY, GradientsLost, tensors_of

_TRIED: Final = 3  # sizes that are tried as 1, and as 0, each for itself


@dataclass(frozen=True)
class Captured:
    """One graph of a method: what torch.export made of it, and the values that it takes and gives."""

    program: Any  # an ExportedProgram
    arguments: tuple[Tree, ...]  # in the order of the method's arguments
    result: Tree
    inputs: tuple[str, ...]  # the graph's name of each leaf of the arguments
    paths: dict[str, int]  # the leaf that each expression of `guards` refers to
    guards: tuple[str, ...]  # in Python, over `L[...]`
    attributes: dict[str, str]  # the user's name of each parameter, buffer and constant, by the graph's
    gradients: tuple[bool, ...] | None = None  # whether each leaf requires one; None: the graph is right for both
    required: Mapping[str, bool] = field(default_factory=dict)  # that of parameters and buffers, if the method asked it
    asked: frozenset[str] = frozenset()  # what the method asked, of those in watching.py
    grad_mode: bool = True  # whether gradients were on, if that was asked
    package: Any = None  # what AOTInductor compiled of the program, for a compiled module
    device: torch.device | None = None  # where the package runs
    is_extra: bool = False  # for sizes of 0 or 1 that the graph of the example is not right for

    @property
    def leaves(self) -> list[Any]:
        """Returns what each leaf of the arguments is in the graph, such as a tensor without data."""
        found = {node.name: value_of(node) for node in self.program.graph.find_nodes(op="placeholder")}
        return [found[name] for name in self.inputs]

    @property
    def ranges(self) -> dict[str, Any]:
        """Returns the limits of each symbol of the graph, by its name."""
        return {str(symbol): bounds for symbol, bounds in self.program.range_constraints.items()}


@dataclass(frozen=True)
class Finish:
    """Says by what the graphs of a module are run."""

    complete: Callable[[Captured, str], Captured]  # takes a graph, and what names interface and method in errors
    takes_integers: bool  # or each of them is a constant


RUN_BY_TORCHSCRIPT: Final = Finish(lambda captured, where: captured, takes_integers=True)


def capture(
    module: nn.Module,
    method: Method,
    example: Any,
    dynamic: Any,
    classes: Classes,
    device: torch.device,
    where: str,
    finish: Finish,
) -> list[Captured]:
    """Traces a method for one example. Returns its graph, and perhaps others: see Note [Sizes of 0 and 1].

    Args:
        dynamic: torch.export's `dynamic_shapes` for the method's arguments, by name or in order; None for all that can
            be dynamic.
        device: the module's device, where the example's tensors are put.
        where: names interface and method in errors.
        finish: says how a graph is run, and completes it.

    Raises:
        CreationError: torch.export cannot trace the method.
    """
    arguments, leaves = read_example(example, method, classes, where, finish.takes_integers)
    shapes = read_shapes(arguments, leaves, dynamic, method, where)
    # Copies, for two arguments may be one tensor here, and are not in other calls.
    leaves = [_fresh(leaf, device) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
    call = Call(method, arguments, classes, where)
    try:
        captured = finish.complete(_capture(module, call, leaves, shapes), where)
    except GradientsLost:  # then calls with gradients are refused
        without = _capture(module, replace(call), leaves, shapes, gradients=False)
        captured = finish.complete(replace(without, asked=without.asked | {GRAD_MODE}), where)
    others: list[Captured] = []
    if _torch.are_hints(shapes):
        for size in (1, 0):
            for narrowed in _with_sizes_of(size, captured, leaves):
                with suppress(CreationError):  # then calls of that size are refused
                    narrow_shapes = read_shapes(arguments, narrowed, None, method, where)
                    again = _capture(module, replace(call), narrowed, narrow_shapes, captured.grad_mode)
                    others.append(replace(finish.complete(again, where), is_extra=True))
    if GRAD_MODE in captured.asked and captured.grad_mode:
        with suppress(CreationError):  # then calls without gradients are refused
            without = _capture(module, replace(call), leaves, shapes, gradients=False)
            others.append(finish.complete(without, where))
    return [captured, *others]


def _with_sizes_of(wanted: int, captured: Captured, leaves: list[Any]) -> Iterator[list[Any]]:
    """Yields the leaves with sizes of 1, or 0, where the graph is not right for that: for each such size, and for all.

    Of sizes of 0 there is no more than one.
    """
    ranges = captured.ranges
    sizes = [
        (str(size), index, dimension)
        for index, value in enumerate(captured.leaves)
        if isinstance(value, torch.Tensor)
        for dimension, size in enumerate(value.shape)
        if not isinstance(size, int)
    ]
    places: dict[str, list[tuple[int, int]]] = {}  # one symbol is one size
    for symbol, index, dimension in sizes:
        places.setdefault(symbol, []).append((index, dimension))

    def narrowed(group: list[tuple[int, int]]) -> list[Any]:
        found = list(leaves)
        for index, dimension in group:
            found[index] = _fresh(found[index].narrow(dimension, 0, wanted).contiguous(), found[index].device)
        return found

    groups = [
        group
        for size, group in places.items()
        if all(leaves[index].size(dimension) > wanted for index, dimension in group)  # an example may be empty
        if (size in ranges and ranges[size].lower == wanted + 1) or not _hold(captured.guards, narrowed(group))
    ][:_TRIED]
    if wanted == 1 and len(groups) > 1:
        groups.append([place for group in groups for place in group])
    yield from map(narrowed, groups)


def _hold(guards: Sequence[str], leaves: list[Any]) -> bool:
    """Says whether leaves meet all guards, as far as Python can tell: AOTInductor's have functions of sympy's, too."""
    known = {"L": {"leaves": leaves}, "torch": torch, "math": math}
    for guard in guards:
        try:
            if not eval(guard, known):
                return False
        except ZeroDivisionError:
            return False
        except Exception:
            continue
    return True


def _capture(
    module: nn.Module,
    call: Call,
    leaves: list[Any],
    shapes: list[Any],
    gradients: bool = True,
) -> Captured:
    """Traces a method with these leaves. `gradients`: with gradients on."""
    where = call.where
    before = State(module, traced=False)
    try:
        hinted = _torch.are_hints(shapes)
        program = _torch.export_program(Traced(module, call), leaves, shapes, hinted, gradients)
        while call.is_stale:
            program = _torch.export_program(Traced(module, call), leaves, shapes, hinted, gradients)
    except TorchRemoteError as error:
        if has_users_line(error):
            raise
        raise error.with_traceback(None) from None
    except Exception as error:  # torch.export may raise anything, as may the user's code
        said = f"{where}: torch.export cannot capture it: {reason_of(error)}"
        raise CreationError(said) from shown_cause(error)
    finally:
        before.changed()
    check_apart(module, call.assigned, where)
    signature = program.graph_signature
    attributes = {
        spec.arg.name: spec.target.removeprefix(f"{MODULE}.")
        for spec in signature.input_specs
        if spec.target is not None
    }
    inputs = tuple(spec.arg.name for spec in signature.input_specs if spec.kind.name == "USER_INPUT")
    paths = {f"L['leaves'][{index}]": index for index in range(len(leaves))}
    assert call.result is not None, "torch.export calls forward"
    _check_texts(call.result, program, where)
    guards = _torch.guards_of(program)  # what it is traced from again knows no more
    program = without_vmap(program, where)
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    if MEMORY in call.asked and not all(tensor.is_contiguous() for tensor in tensors):
        raise CreationError(f"{where}: it asks for the strides of its tensors; give contiguous tensors as examples")
    gradients_of_leaves = tuple(isinstance(leaf, torch.Tensor) and leaf.requires_grad for leaf in leaves)
    return Captured(
        program,
        call.arguments,
        call.result,
        inputs,
        paths,
        guards,
        attributes,
        gradients_of_leaves if GRADIENT in call.asked else None,
        {name: tensor.requires_grad for name, tensor in tensors_of(module).items() if name in call.asked_of},
        call.asked,
        gradients,
    )


def _check_texts(tree: Tree, program: Any, where: str) -> None:
    """Raises CreationError if a text of the result has a size in it, which is torch.export's name for the size."""
    symbols = {str(symbol) for symbol in program.range_constraints}
    values = [tree]
    for value in values:
        if isinstance(value, Several):
            values += [*value.items, *map(Constant, value.keys or ())]
        text = value.value if isinstance(value, Constant) and isinstance(value.value, str) else ""
        if not symbols.isdisjoint(re.findall(r"\w+", text)):
            raise CreationError(
                f"{where}: it returns the text {text!r:.60}, which has a size or an integer in it, and a graph has no "
                "text that differs between calls; return the number"
            )


def without_vmap(program: Any, where: str) -> Any:
    """Returns a program without the operators of vmap. They take Python objects, so it is traced again without them.

    Raises:
        CreationError: that would lose a region without gradients.
    """
    tensors = [constant for constant in program.constants.values() if isinstance(constant, torch.Tensor)]
    if any(map(_torch.is_of_transform, tensors)):
        raise CreationError(
            f"{where}: it has a transform of torch.func, which left a tensor in the graph. {ON_TRANSFORMS}"
        )
    graphs = [part.graph for part in program.graph_module.modules() if isinstance(part, torch.fx.GraphModule)]
    called = [node for graph in graphs for node in graph.nodes if node.op == "call_function"]
    if "torch._functorch.predispatch" not in {getattr(node.target, "__module__", "") for node in called}:
        return program
    regions = [node for node in called if str(node.target) == "wrap_with_set_grad_enabled"]
    if regions:
        raise CreationError(
            f"{where}: its graph has vmap beside a region without gradients; write the vmap as operators on a batch"
        )
    try:
        decomposed = _torch.decompose(program)
    except Exception as error:  # as for what torch.func.grad leaves in a graph
        raise CreationError(
            f"{where}: it has a transform of torch.func that torch.export cannot take apart: {reason_of(error)}; "
            "compute that part in operators, or leave it out of the method"
        ) from error
    if _detached(decomposed) > _detached(program):
        raise CreationError(f"{where}: tracing its vmap again loses gradients; write the vmap as operators on a batch")
    return decomposed


def _detached(program: Any) -> int:
    """Counts the operators that end gradients."""
    return sum("detach" in str(node.target) for node in program.graph.nodes)


def _fresh(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    copied = tensor.detach().to(device, copy=True).resolve_conj().resolve_neg()
    return copied.requires_grad_(tensor.requires_grad)
