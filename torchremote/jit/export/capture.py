"""Captures one method of a module for one example: torch.export traces it, with dimensions as dynamic as it finds them.

Note [What is traced]
    torch.export is given a module of ours. Its forward takes the leaves of the example, calls the user's method with
    the values that they make up, and returns the leaves of the result. So torch.export sees tensors and integers only,
    whatever types the interface declares, and all other values are constants that the generated code compares.

    A method may ask what torch.export assumes nothing about: whether a tensor requires a gradient, and how it lies in
    memory. If it does, calls are compared with the example in that, too.

    torch.export puts back the attributes that a module changes while it is traced, and says nothing. A call would lose
    the change. So attributes are compared before and after the method, inside of the trace, and a change is refused.

Note [Sizes of 1]
    torch.export knows two ways to see sizes. In one, a size may be anything, and a graph is right for 1 as for others,
    unless the method asks. It fails for some methods. In the other, a size that is larger than 1 in the example is at
    least 2. Where a graph is not right for 1, the method is traced again with that size, and a call takes the graph
    that is right for it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ... import _torch
from ...errors import CreationError, TorchRemoteError
from ..read.model import Method
from ..script.classes import Classes
from .examples import bound_arguments, read_example, read_shapes
from .values import Reader, Tree, build

MODULE = "module"
"""The attribute under which the traced module has the user's; torch.export names parameters by it."""


_LEAST: Final = 2
_EXCLUDES_1: Final = re.compile(r"!= 1\b|>= 2\b|> 1\b")
_TRIED: Final = 3  # sizes that are tried as 1, each for itself


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
    is_contiguous: bool = False  # whether it is right for contiguous tensors only
    package: Any = None  # what AOTInductor compiled of the program, for a compiled module
    device: torch.device | None = None  # where the package runs


@dataclass(frozen=True)
class Finish:
    """Says by what the graphs of a module are run."""

    complete: Callable[[Captured, str], Captured]  # takes a graph, and what names interface and method in errors
    takes_integers: bool  # or each of them is a constant


RUN_BY_TORCHSCRIPT: Final = Finish(lambda captured, where: captured, takes_integers=True)


@dataclass
class _Call:
    """The call that is traced. torch.export does not look into it, as it does into lists and dicts."""

    method: Method
    arguments: tuple[Tree, ...]
    classes: Classes
    where: str
    result: Tree | None = None
    asked: frozenset[str] = frozenset()  # what the method asked of tensors


class _Asking(TorchFunctionMode):
    """Notes what a method asks of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in _QUESTIONS:  # only then: torch 2.11 traces this for branches and loops, and guards the set
            self.asked.add(_QUESTIONS[function])
        return function(*args, **(kwargs or {}))


_GETTERS = ("requires_grad", "is_leaf", "grad_fn")
_QUESTIONS: dict[Any, str] = {
    **{getattr(torch.Tensor, name).__get__: "gradient" for name in _GETTERS},
    **dict.fromkeys((torch.Tensor.is_contiguous, torch.Tensor.stride, torch.Tensor.storage_offset), "memory"),
}


class _Traced(nn.Module):
    """Calls a method of the user's module with the leaves of its arguments: see Note [What is traced]."""

    def __init__(self, module: nn.Module, call: _Call) -> None:
        super().__init__()
        self.module = module
        self.call = call
        self.training = module.training

    def forward(self, *leaves: Any) -> tuple[Any, ...]:
        method, classes, where = self.call.method, self.call.classes, self.call.where
        values = {
            argument.name: build(tree, argument.type, leaves, classes)
            for argument, tree in zip(method.arguments, self.call.arguments, strict=True)
        }
        module: nn.Module = self.module
        # Calling the module runs its hooks, too.
        call = module if method.name == "forward" else getattr(module, method.name)
        positional, named = bound_arguments(getattr(module, method.name), method, values, where)
        before = _attributes(module)
        buffers = [(part, dict(part._buffers)) for part in module.modules()]
        with _Asking() as asking:
            result = call(*positional, **named)
        self.call.asked = frozenset(asking.asked)
        _put_back(buffers, where)
        changed = [name for name, value in _attributes(module).items() if not _same(before.get(name), value)]
        if changed:
            raise CreationError(
                f"{where}: {type(module).__name__} changes its attribute {changed[0]}, which an exported module cannot "
                "keep; make it a tensor, register it with register_buffer, and change it in place"
            )
        reader = Reader(classes)
        self.call.result = reader.read_result(result, method.returns, f"{where}.return")
        return tuple(reader.leaves)


def _put_back(buffers: list[tuple[nn.Module, dict[str, torch.Tensor | None]]], where: str) -> None:
    """Copies what was assigned to buffers into the buffers themselves. torch.export would lose it, in a part.

    Raises:
        CreationError: it does not fit.
    """
    for part, before in buffers:
        for name, value in list(part._buffers.items()):
            own = before.get(name)
            if value is own:
                continue
            if own is None or value is None or own.shape != value.shape or own.dtype != value.dtype:
                raise CreationError(
                    f"{where}: {type(part).__name__} assigns a tensor of another size or dtype to its buffer {name}; "
                    "an exported module keeps its buffers as they are; register the buffer in its full size"
                )
            own.copy_(value)
            part._buffers[name] = own


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Returns what a module and its parts have beside parameters, buffers and parts; containers as copies."""
    found: dict[str, Any] = {}
    for prefix, part in module.named_modules():
        if isinstance(part, nn.RNNBase):
            continue  # it keeps a list of its parameters, and makes it anew
        dotted = f"{prefix}." if prefix else ""
        hooks = part._forward_pre_hooks.values()
        # torch's own hooks compute these anew in every call: weight_norm and spectral_norm.
        computed = {hook.name for hook in hooks if type(hook).__module__.startswith("torch.nn.utils.")}
        for name, value in vars(part).items():
            if name not in _OWN and name not in computed:
                found[dotted + name] = _copied(value)
        found |= {dotted + name: parameter for name, parameter in part._parameters.items()}
    return found


_OWN = frozenset(vars(nn.Module())) - {"training"}


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, (list, dict, set)) else value


def _same(one: Any, other: Any) -> bool:
    if one is other:  # nan, too
        return True
    if isinstance(one, (list, tuple)) and type(one) is type(other):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(map(_same, one.values(), other.values()))
    if isinstance(one, (int, float, str, set)) and type(one) is type(other):
        return bool(one == other)
    return (isinstance(one, torch.Size) and tuple(one) == other) or _is_same_code(one, other)


def _is_same_code(one: Any, other: Any) -> bool:
    """Says whether two values are one dtype, or one function of one object, of which Python makes a new one each."""
    return (isinstance(one, (torch.dtype, torch.device)) and one == other) or (inspect.ismethod(one) and one == other)


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
    """Traces a method for one example. Returns its graph, and perhaps others for sizes of 1: see Note [Sizes of 1].

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
    call = _Call(method, arguments, classes, where)
    captured = finish.complete(_capture(module, call, leaves, shapes), where)
    others: list[Captured] = []
    if _torch.are_hints(shapes):
        for narrowed in _with_ones(captured, leaves):
            with suppress(CreationError):  # then calls of that size are refused
                again = _capture(module, replace(call), narrowed, read_shapes(arguments, narrowed, None, method, where))
                others.append(finish.complete(again, where))
    return [captured, *others]


def _with_ones(captured: Captured, leaves: list[Any]) -> Iterator[list[Any]]:
    """Yields the leaves with sizes of 1, where the graph is not right for 1: for each such size, and for all."""
    least = {str(symbol): bounds.lower for symbol, bounds in captured.program.range_constraints.items()}
    nodes = {node.name: node.meta.get("val") for node in captured.program.graph.nodes if node.op == "placeholder"}
    sizes = [
        (str(size), index, dimension)
        for index, name in enumerate(captured.inputs)
        if isinstance(value := nodes[name], torch.Tensor)
        for dimension, size in enumerate(value.shape)
        if not isinstance(size, int)
    ]
    excluding = [guard for guard in captured.guards if _EXCLUDES_1.search(guard)]
    places: dict[str, list[list[int]]] = {}
    for size, index, dimension in sizes:
        source = f"L['leaves'][{index}].size()[{dimension}]"
        if least.get(size) == _LEAST or any(source in guard for guard in excluding):
            places[size] = [place for other, *place in sizes if other == size]  # one symbol is one size
    groups = [*list(places.values())[:_TRIED], [one for several in places.values() for one in several]]
    for group in groups if len(places) > 1 else groups[:1] if places else []:
        narrowed = list(leaves)
        for index, dimension in group:
            narrowed[index] = _fresh(narrowed[index].narrow(dimension, 0, 1).contiguous(), narrowed[index].device)
        yield narrowed


def _capture(module: nn.Module, call: _Call, leaves: list[Any], shapes: list[Any]) -> Captured:
    """Traces a method with these leaves."""
    where = call.where
    try:
        program = _torch.export_program(_Traced(module, call), leaves, shapes, hinted=_torch.are_hints(shapes))
    except TorchRemoteError:
        raise
    except Exception as error:  # torch.export may raise anything, as may the user's code
        raise CreationError(f"{where}: torch.export cannot capture it: {_reason(error)}") from error
    signature = program.graph_signature
    attributes = {
        spec.arg.name: spec.target.removeprefix(f"{MODULE}.")
        for spec in signature.input_specs
        if spec.target is not None
    }
    inputs = tuple(spec.arg.name for spec in signature.input_specs if spec.kind.name == "USER_INPUT")
    paths = {f"L['leaves'][{index}]": index for index in range(len(leaves))}
    assert call.result is not None, "torch.export calls forward"
    guards = _torch.guards_of(program)  # what it is traced from again knows no more
    program = without_vmap(program, where)
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    if "memory" in call.asked and not all(tensor.is_contiguous() for tensor in tensors):
        raise CreationError(f"{where}: it asks for the strides of its tensors; give contiguous tensors as examples")
    gradients = tuple(isinstance(leaf, torch.Tensor) and leaf.requires_grad for leaf in leaves)
    return Captured(
        program,
        call.arguments,
        call.result,
        inputs,
        paths,
        guards,
        attributes,
        gradients if "gradient" in call.asked else None,
        "memory" in call.asked,
    )


def without_vmap(program: Any, where: str) -> Any:
    """Returns a program without the operators of vmap. They take Python objects, so it is traced again without them.

    Raises:
        CreationError: that would lose a region without gradients.
    """
    names = {getattr(node.target, "__module__", "") for node in program.graph.nodes if node.op == "call_function"}
    if "torch._functorch.predispatch" not in names:
        return program
    graphs = [part.graph for part in program.graph_module.modules() if isinstance(part, torch.fx.GraphModule)]
    regions = [node for graph in graphs for node in graph.nodes if str(node.target) == "wrap_with_set_grad_enabled"]
    if regions:
        raise CreationError(
            f"{where}: its graph has vmap beside a region without gradients; write the vmap as operators on a batch"
        )
    decomposed = _torch.decompose(program)
    if _detached(decomposed) > _detached(program):
        raise CreationError(f"{where}: tracing its vmap again loses gradients; write the vmap as operators on a batch")
    return decomposed


def _detached(program: Any) -> int:
    """Counts the operators that end gradients."""
    return sum("detach" in str(node.target) for node in program.graph.nodes)


def _fresh(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    return tensor.detach().to(device, copy=True).requires_grad_(tensor.requires_grad)


def _reason(error: Exception) -> str:
    """Returns what matters of an error of torch.export, which adds advice on its own interface."""
    said = str(error).strip() or type(error).__name__
    kept = [line for line in said.splitlines() if line.strip()]
    cause = error.__cause__ or error.__context__
    first = f"{type(error).__name__}: " + "\n".join(kept[:12])
    return first if cause is None or str(cause) in said else f"{first}\nbecause of {type(cause).__name__}: {cause}"
