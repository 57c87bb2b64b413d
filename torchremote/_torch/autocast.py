"""Traces autocast regions of an exported graph, so that the casts are in the graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import torch
from torch.export import exported_program as _exported_program
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from .export import OpOverload, operator_schema, undisturbed

_C: Any = torch._C  # its type stubs lack many names

# Note [Operators in an autocast region]
#     torch composes many operators of others. A graph has them whole, as `linear`, and so does what it is lowered
#     to. Autocast casts what some operators are given, `linear` and `bmm` among them, and leaves the others to
#     the operators that they are composed of. So a region's operators stay whole where autocast casts what they are
#     given, or casts nothing in them. The others, as `einsum`, are traced below themselves, where the casts are.
#
#     A few operators are not composed in this sense, and call others all the same, in C++. Eagerly, autocast casts in
#     there, and no graph can: regions with these are refused.
_OPAQUE: Final = frozenset(("aten::_trilinear",))


def with_casts(region: Any, operands: list[Any], device: str, dtype: torch.dtype | None) -> tuple[Any, tuple[Any, Any]]:
    """Traces the graph of an autocast region again, under autocast and below it, so that it has the casts.

    Without gradients: with them, the trace would detach what autograd keeps.
    See Note [Operators in an autocast region].

    Returns:
        The graph, and the dtypes of the region's results: eagerly, and in the graph.
    """
    fake: Any = next(getattr(one, "fake_mode") for one in operands if isinstance(one, torch.Tensor))  # noqa: B009

    def autocast() -> Any:
        return torch.autocast(device, dtype, enabled=True, cache_enabled=False)

    def run(*given: Any) -> Any:
        with autocast():
            return region(*given)

    def trace() -> Any:
        return make_fx(run, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*operands)

    composed, _ = _exported_program._split_decomp_table_to_cia_and_python_decomp({})
    key = f"Autocast{device.upper()}"
    apart: set[Any] = set()
    graph_module = region
    with undisturbed(), torch.no_grad(), fake:
        while True:  # what an operator is composed of may be composed, too
            with autocast():
                others = [node for node in _calls(graph_module) if node.target in composed.keys() - apart]
                found = {node.target for node in others if not _is_cast(node.target, key) and _has_casts(node, key)}
            if not found and graph_module is not region:
                return graph_module, (_dtypes(trace()), _dtypes(graph_module))
            apart |= found
            kept = {one: keep for one, keep in composed.items() if one not in apart}
            with _exported_program._override_composite_implicit_decomp(kept):
                graph_module = trace()


def _dtypes(graph_module: Any) -> list[torch.dtype | None]:
    """Returns the dtypes of a graph's results. None stands for what is no tensor."""
    [output] = graph_module.graph.find_nodes(op="output")
    results = (one.meta.get("val") if isinstance(one, torch.fx.Node) else one for one in output.args[0])
    return [getattr(one, "dtype", None) for one in results]


def opaque_to_casts(graph_module: Any, device: str) -> str:
    """Returns an operator in which eager autocast casts and no graph can, or "": see the note above."""
    key = f"Autocast{device.upper()}"
    names = (operator_schema(node.target).name for node in _calls(graph_module) if not _is_cast(node.target, key))
    return next((name for name in names if name in _OPAQUE), "")


def _calls(graph_module: Any) -> Iterator[torch.fx.Node]:
    """Yields the nodes that call operators of ATen or another library, also those in the graphs of other operators."""
    for part in graph_module.modules():
        if isinstance(part, torch.fx.GraphModule):
            yield from (node for node in part.graph.nodes if isinstance(node.target, OpOverload))


def _is_cast(operator: Any, key: str) -> bool:
    """Says whether autocast knows an operator, and may cast what it is given."""
    try:
        return bool(_C._dispatch_has_kernel_for_dispatch_key(operator.name(), key))
    except RuntimeError:  # it has no kernels at all, as prim::device
        return False


class _Called(TorchDispatchMode):
    """Collects the operators that are called, below the composed ones."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: set[Any] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators.add(func)
        return func(*args, **(kwargs or {}))


def _has_casts(node: torch.fx.Node, key: str) -> bool:
    """Says whether a composed operator calls some that autocast knows. It runs on the tensors of the trace."""
    known = torch.fx.node.map_arg((node.args, node.kwargs), lambda one: one.meta["val"])
    with _Called() as called:
        node.target.decompose(*known[0], **known[1])  # type: ignore[union-attr]
    return any(_is_cast(one, key) or operator_schema(one).name in _OPAQUE for one in called.operators)
