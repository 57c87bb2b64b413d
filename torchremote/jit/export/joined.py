"""Says what an owner has to know to join calls of an exported method into one: see owner/running/gathering.py.

Note [Joined calls that no graph is right for]
    A call of concatenated tensors is a call of another size. No graph may be right for it, though one is for each of
    the calls: where a size has an upper limit or is fixed, or where the method compares it. The exported module then
    has a method that says so: for each of its methods, along which dimensions calls may not fit when they are joined.
    It also says whether a method can be run again after it failed, because it changes nothing. An owner that gathers
    calls asks when it hosts the module. Of a method that can be run again, it makes one call of many, and if that
    fails, runs each by itself, as of idempotent methods. The calls of others go by themselves.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import torch

from ... import _torch
from ..lower import ir
from ..lower.units import SELF
from .capture import Captured
from .comparisons import limits_of

LIMITS: Final = "torchremote_limits"
"""The generated method that returns the limits as text, one method a line. A module whose calls can all be joined has
none."""
_NORMS: Final = ("training", "use_input_stats")
"""Arguments of batch_norm and instance_norm, which change running statistics if it is True. No schema says that."""


class Limits(NamedTuple):
    """Says how calls of a method can be joined."""

    dimensions: frozenset[int]  # along which joined calls may be refused, counted from both ends
    changes: bool  # whether it changes what outlives a call


def lower_limits(methods: Mapping[str, Sequence[Captured]]) -> list[ir.Function]:
    """Lowers the method that says of all methods how calls can be joined. Returns an empty list if all can be.

    Args:
        methods: the graphs of each.
    """
    said = []
    for name, graphs in methods.items():
        dimensions = sorted(set().union(*(_limited(captured) for captured in graphs if not captured.is_extra)))
        if dimensions:
            changes = any(_changes(captured.program) for captured in graphs)
            said.append(" ".join([name, str(int(changes)), *map(str, dimensions)]))
    if not said:
        return []
    return [ir.Function(LIMITS, (SELF,), "str", (ir.Return(ir.Literal("\n".join(said))),))]


def limits_of_module(module: torch.jit.ScriptModule) -> dict[str, Limits]:
    """Returns how calls of a module's methods can be joined. Those are left out whose calls all can be."""
    if not _torch.has_method(module, LIMITS):
        return {}
    found = {}
    for line in getattr(module, LIMITS)().splitlines():
        name, changes, *dimensions = line.split()
        found[name] = Limits(frozenset(map(int, dimensions)), changes == "1")
    return found


def _limited(captured: Captured) -> set[int]:
    """Returns the dimensions along which a graph may not be right for joined calls though it is for each."""
    ranges = captured.ranges
    tensors = {index: value for index, value in enumerate(captured.leaves) if isinstance(value, torch.Tensor)}
    guards = [ast.parse(guard.strip(), mode="eval").body for guard in captured.guards]
    most = max((value.dim() for value in tensors.values()), default=0)
    limited = set()
    for dimension in range(-most, most):
        places = {index: dimension % v.dim() for index, v in tensors.items() if -v.dim() <= dimension < v.dim()}
        own = {f"{path}.size()[{places[i]}]" for path, i in captured.paths.items() if i in places}
        if any(_is_limited(tensors[index].shape[n], ranges) for index, n in places.items()) or not all(
            _holds_for_sums(guard, own) for guard in guards
        ):
            limited.add(dimension)
    return limited


def _is_limited(size: Any, ranges: Mapping[str, Any]) -> bool:
    """Says whether a size is fixed, or has an upper limit, or is computed of others."""
    if isinstance(size, int) or not size.node.expr.is_Symbol:
        return True
    return limits_of(ranges.get(str(size.node.expr)))[1] is not None


def _holds_for_sums(guard: ast.expr, own: set[str]) -> bool:
    """Says whether a condition holds for the sums of sizes if it does for each. What is not sure does not.

    Args:
        own: how the condition calls the sizes. All else in it is equal for all calls.
    """
    match guard:
        case _ if not _mentions(guard, own):
            return True
        case ast.BoolOp(ast.And(), parts):
            return all(_holds_for_sums(part, own) for part in parts)
        case ast.Compare(left, [ast.Eq()], [right]):
            return {ast.unparse(left), ast.unparse(right)} <= own
        case ast.Compare(ast.Constant() as limit, [sign], [value]) if type(sign) in _TURNED:
            return _holds_for_sums(ast.Compare(value, [_TURNED[type(sign)]], [limit]), own)
        case ast.Compare(value, [sign], [ast.Constant(int(limit))]):
            factors = list(_factors(value))
            others = [factor for factor in factors if ast.unparse(factor) not in own]
            if any(_mentions(factor, own) for factor in others):
                return False
            match sign:
                case ast.NotEq() if limit == 0:
                    return True
                case ast.NotEq():  # as `8 * size != 8`
                    values = [one.value for one in others if isinstance(one, ast.Constant)]
                    numbers = [one for one in values if isinstance(one, int)]
                    return len(factors) == len(numbers) + 1 and math.prod(numbers) == limit > 0
                case ast.Gt() | ast.GtE():
                    return all(map(_is_positive, others))
    return False


_TURNED: Final[dict[type, ast.cmpop]] = {ast.NotEq: ast.NotEq(), ast.Lt: ast.Gt(), ast.LtE: ast.GtE()}


def _mentions(node: ast.expr, own: set[str]) -> bool:
    text = ast.unparse(node)
    return any(size in text for size in own)


def _factors(node: ast.expr) -> Iterator[ast.expr]:
    match node:
        case ast.BinOp(left, ast.Mult(), right):
            yield from _factors(left)
            yield from _factors(right)
        case _:
            yield node


def _is_positive(factor: ast.expr) -> bool:
    """Says whether a factor is certainly not less than 0: a number, or a size."""
    match factor:
        case ast.Constant(int(value)):
            return value >= 0
        case ast.Subscript(ast.Call(ast.Attribute(_, "size"), []), ast.Constant(int())):
            return True
    return False


def _changes(program: Any) -> bool:
    """Says whether a graph may change what outlives a call: the module, or whatever an operator of a library does."""
    if any("MUTATION" in spec.kind.name for spec in program.graph_signature.output_specs):
        return True
    return any(_operator_changes(node) for node in _called(program.graph_module.modules()))


def _called(parts: Iterable[Any]) -> Iterator[Any]:
    for part in parts:
        if isinstance(part, torch.fx.GraphModule):
            yield from (node for node in part.graph.nodes if isinstance(node.target, _torch.OpOverload))


def _operator_changes(node: Any) -> bool:
    schema = _torch.operator_schema(node.target)
    if not schema.name.startswith("aten::") or _torch.changes_any(node.target):
        return True
    if "_norm" not in schema.name:
        return False
    given = {one.name: value for one, value in zip(schema.arguments, node.args, strict=False)} | dict(node.kwargs)
    return any(given.get(name) is True for name in _NORMS)
