"""Lowers the operators that have graphs of their own: conditions, loops, grad mode and autocast regions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import torch

from ... import _torch
from ...errors import CreationError
from ..lower import ir
from .nodes import value_of
from .operators import Operators


class RegionLowering(Protocol):
    """Declares the part of `Lowering` (graph.py) that the functions here use."""

    operators: Operators
    without_gradients: bool

    def region(self, graph_module: Any, given: list[Any] | None, into: list[ir.Statement]) -> list[Any]: ...
    def fresh(self, wanted: str) -> str: ...
    def assign(self, wanted: str, value: ir.Expression, into: list[ir.Statement]) -> ir.Name: ...


Write = Callable[[Any], Any]
Into = list[ir.Statement]


def _condition(lowering: RegionLowering, node: torch.fx.Node, arguments: Any, write: Write, into: Into) -> list[Any]:
    """`torch.cond`: an if."""
    test, yes, no, operands = arguments
    given = [write(operand) for operand in operands]
    names: list[str] = []
    branches: list[tuple[ir.Statement, ...]] = []
    for branch in (yes, no):
        body: Into = []
        results = lowering.region(write(branch), given, body)
        names = names or [lowering.fresh(node.name) for _ in results]
        body += [ir.Assign((name,), result) for name, result in zip(names, results, strict=True)]
        branches.append(tuple(body) or (ir.Pass(),))
    into.append(ir.If(ir.call("bool", write(test)), branches[0], branches[1]))
    return [ir.Name(name) for name in names]


def _while(lowering: RegionLowering, node: torch.fx.Node, arguments: Any, write: Write, into: Into) -> list[Any]:
    """`while_loop`: a loop whose variables are those that it carries."""
    test, step, carried, others = arguments
    names = [lowering.fresh(node.name) for _ in carried]
    into += [ir.Assign((name,), write(first)) for name, first in zip(names, carried, strict=True)]
    given = [*map(ir.Name, names), *map(write, others)]
    going = lowering.fresh("going")

    def ask(body: Into) -> None:
        [answer] = lowering.region(write(test), given, body)
        body.append(ir.Assign((going,), ir.call("bool", answer)))

    ask(into)
    body: Into = []
    # A body may return what it was given in another order, so its results are put away first.
    results = [lowering.assign("next", result, body) for result in lowering.region(write(step), given, body)]
    body += [ir.Assign((name,), result) for name, result in zip(names, results, strict=True)]
    ask(body)
    into.append(ir.While(ir.Name(going), tuple(body)))
    return [ir.Name(name) for name in names]


def _map(lowering: RegionLowering, node: torch.fx.Node, arguments: Any, write: Write, into: Into) -> list[Any]:
    """`map`: a loop over the first dimension, which stacks the results."""
    step, over, others = arguments
    return _loop(lowering, node, (step, [], over, others), write, into)


def _loop(lowering: RegionLowering, node: torch.fx.Node, arguments: Any, write: Write, into: Into) -> list[Any]:
    """`scan`: a loop over the first dimension that carries values, and stacks the other results."""
    step, first, over, others = arguments
    names = [lowering.fresh(node.name) for _ in first]
    into += [ir.Assign((name,), write(value)) for name, value in zip(names, first, strict=True)]
    sources = [write(value) for value in over]
    position = ir.Name(lowering.fresh("position"))
    body: Into = []
    items = [
        lowering.assign("item", lowering.operators.aten("select", "int", source, ir.Literal(0), position), body)
        for source in sources
    ]
    results = lowering.region(write(step), [*map(ir.Name, names), *items, *map(write, others)], body)
    results = [lowering.assign("next", result, body) for result in results]
    body += [ir.Assign((name,), result) for name, result in zip(names, results[: len(names)], strict=True)]
    collected = [lowering.fresh("collected") for _ in results[len(names) :]]
    for name, result in zip(collected, results[len(names) :], strict=True):
        into.append(ir.Assign((name,), ir.Empty("[]"), "List[Tensor]"))
        body.append(ir.append(ir.Name(name), result))
    length = ir.called(sources[0], "size", ir.Literal(0))
    into.append(ir.For((position.id,), ir.call("range", length), tuple(body)))
    stacked = [
        lowering.assign(node.name, lowering.operators.aten("stack", "", ir.Name(name)), into) for name in collected
    ]
    return [*map(ir.Name, names), *stacked]


def _grad_mode(lowering: RegionLowering, node: torch.fx.Node, arguments: Any, write: Write, into: Into) -> list[Any]:
    """A region with another grad mode. What it computes is known after it, too.

    TorchScript has no grad mode that is on inside of one that is off. And it takes equal operators, one with and one
    without gradients, for the same: it would compute only the first. So a region without them has operands of its own.
    """
    enabled, *written = arguments
    region, *given = map(write, written)
    if enabled:
        if lowering.without_gradients:
            raise lowering.operators.refused("a region with gradients inside of one without")
        return lowering.region(region, given, into)
    body: Into = []
    detached: dict[Any, ir.Expression] = {}
    inside: list[Any] = []
    for node_of, value in zip(node.args[2:], given, strict=True):
        known = value_of(node_of)
        if isinstance(known, torch.Tensor):
            own = lowering.assign("detached", lowering.operators.aten("detach", "", value), body)
            detached[own] = value
            inside.append(own)
        else:
            inside.append(value)
    before, lowering.without_gradients = lowering.without_gradients, True
    results = lowering.region(region, inside, body)
    lowering.without_gradients = before
    into.append(ir.without_gradients(*(body or (ir.Pass(),))))
    results = [detached.get(result, result) if isinstance(result, ir.Name) else result for result in results]
    changed = _changed_in_place(region)
    return [given[changed[place]] if place in changed else result for place, result in enumerate(results)]


def _changed_in_place(region: Any) -> dict[int, int]:
    """Returns which results of a region are its operands, changed in place: a place among them for each such result."""
    places = {node: place for place, node in enumerate(region.graph.find_nodes(op="placeholder"))}
    [output] = region.graph.find_nodes(op="output")
    results = output.args[0] if isinstance(output.args[0], (list, tuple)) else [output.args[0]]
    found: dict[int, int] = {}
    for number, node in enumerate(results):
        origin = node
        while isinstance(origin, torch.fx.Node) and _torch.changes_first(origin.target):
            origin = origin.args[0]
        if origin is not node and origin in places:
            found[number] = places[origin]
    return found


def _autocast(lowering: RegionLowering, node: torch.fx.Node, arguments: Any, write: Write, into: Into) -> list[Any]:
    """An autocast region: the casts that it makes are written out."""
    device, dtype, enabled, _, *written = arguments
    region, *given = map(write, written)
    if enabled:
        graphs = [part.graph for part in region.modules() if isinstance(part, torch.fx.GraphModule)]
        targets = [str(inner.target) for graph in graphs for inner in graph.nodes]
        if "wrap_with_set_grad_enabled" in targets:
            raise lowering.operators.refused("a region with another grad mode inside of an autocast region")
        operands_in_graph = [value_of(one) for one in node.args[5:]]
        if not any(isinstance(one, torch.Tensor) for one in operands_in_graph):
            raise lowering.operators.refused("an autocast region without tensors, or one inside of another region")
        region, dtypes = _torch.with_casts(region, operands_in_graph, device, dtype)
        _check_casts(lowering.operators.where, region, device, *dtypes)
    return lowering.region(region, given, into)


def _check_casts(where: str, region: Any, device: str, wanted: list[Any], traced: list[Any]) -> None:
    """Raises CreationError if the graph of an autocast region lacks casts.

    Args:
        wanted: the dtypes of the region's results.
        traced: those in the graph.
    """
    opaque = _torch.opaque_to_casts(region, device)
    name = "torch.nn.Bilinear" if opaque == "aten::_trilinear" else opaque
    if name:
        raise CreationError(
            f"{where}: it calls {name} in an autocast region, and a graph cannot have the casts that torch makes "
            "inside of that; compute it outside of the region, or write it otherwise, as with torch.einsum"
        )
    if wanted != traced:
        raise CreationError(
            f"{where}: an autocast region gives {wanted}, and its graph {traced}; compute outside of the "
            "region what autocast does not know"
        )


def _inlined(lowering: RegionLowering, node: torch.fx.Node, arguments: Any, write: Write, into: Into) -> list[Any]:
    """A region that only marks a part of the graph, such as what a checkpoint computes again."""
    region, *given = map(write, arguments)
    return lowering.region(region, given, into)


def _named(lowering: RegionLowering, node: torch.fx.Node, arguments: Any, write: Write, into: Into) -> list[Any]:
    """A region that is called by a name."""
    region, _, *given = map(write, arguments)
    return lowering.region(region, given, into)


REGIONS: Final[dict[str, Callable[..., list[Any]]]] = {
    "cond": _condition,
    "while_loop": _while,
    "map_impl": _map,
    "scan": _loop,
    "wrap_with_set_grad_enabled": _grad_mode,
    "wrap_with_autocast": _autocast,
    "tag_activation_checkpoint": _inlined,
    "wrap_activation_checkpoint": _inlined,
    "invoke_subgraph": _named,
}
"""How each operator with graphs of its own is lowered, by its name."""
