"""Keeps what a scripted method computes without gradients apart from what it computes with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import torch

from .scripted import find_function, inline, inlined, place_of

_C: Any = torch._C  # its type stubs lack many names

# Note [Regions without gradients]
#     torch computes equal expressions of a graph once, and `with torch.no_grad():` is no border for that. What a layer
#     gave in such a region then stands for what it gives after it, which has no gradient. So the operators in a region
#     get an attribute that others lack: torch does not take them for equal, and no kernel ever sees it.
#
#     torch also puts new operators in the place of some, without the attribute, or what these were given: of `w + 0`,
#     say, w is left. These get detached tensors. In a region, that gives the same.
#
#     What a method calls is in its graph when torch runs it, but may have been copied before it got the attribute. So
#     the graph of each method that has a region, or calls what has one, gets all that it calls, before it is run.
_ATTRIBUTE: Final = "without_gradients"
_NO_GRAD: Final = re.compile(r"__torch__\.torch\.autograd\.grad_mode\.(___torch_mangle_\d+\.)?no_grad")

# From torch's passes of these names. None of these operators gives what it was given, so a detached one is the same.
_DECOMPOSED: Final = "addmm batch_norm layer_norm"
_PEEPHOLE: Final = "add sub mul div t expand"
_AUTOCAST: Final = """
_convolution conv1d conv2d conv3d conv_tbc conv_transpose1d convolution prelu addmv addr matmul mm mv linear addbmm
baddbmm bmm chain_matmul lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell native_layer_norm acos asin cosh erfinv exp
expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow softplus gelu group_norm frobenius_norm nuclear_norm
cosine_similarity cosine_embedding_loss nll_loss nll_loss2d hinge_embedding_loss kl_div l1_loss smooth_l1_loss mse_loss
margin_ranking_loss multilabel_margin_loss soft_margin_loss triplet_margin_loss multi_margin_loss
binary_cross_entropy_with_logits dist pdist cdist renorm prod softmax log_softmax cumprod cumsum sum addcdiv addcmul
atan2 bilinear cross dot index_put tensordot
"""
_MANGLED: Final = re.compile(r"^__torch__\.|___torch_mangle_\d+\.")
_OF_AUTOCAST: Final = {
    "torch.amp.autocast_mode.autocast": ("device_type", "dtype", "enabled", "cache_enabled"),
    "torch.cpu.amp.autocast_mode.autocast": ("enabled", "dtype", "cache_enabled"),
    "torch.cuda.amp.autocast_mode.autocast": ("enabled", "dtype", "cache_enabled"),
}
"""The arguments of each class that TorchScript takes for autocast, in their order."""
_SETTING: Final = "aten::set_grad_enabled"
_REPLACED: Final = frozenset(f"aten::{name}" for name in f"{_DECOMPOSED} {_PEEPHOLE} {_AUTOCAST}".split())


def has_region(graph: Any) -> bool:
    """Says whether a graph itself, without what it calls, has a region without gradients."""
    return any(_is_no_grad(node) for node in graph.findAllNodes("prim::Enter"))


def separate_regions(graphs: Iterable[Any]) -> None:
    """Keeps torch from merging what is in regions without gradients with what is not, in graphs that were not run yet.

    Args:
        graphs: all that run when methods of a module do, callers before what they call.
    """
    called_first = list(graphs)[::-1]  # what is called keeps, for callers to come, how it was when it was first copied
    for graph in sorted(called_first, key=has_region, reverse=True):
        _separate(graph)


def _separate(graph: Any) -> None:
    whole = inlined(graph)
    if has_region(whole) and any(not node.hasAttribute(_ATTRIBUTE) for node in _in_regions(whole, 0)):
        inline(graph)
        for node in list(_in_regions(graph, 0)):
            if not node.hasAttribute(_ATTRIBUTE):
                node.i_(_ATTRIBUTE, 1)
                if node.kind() in _REPLACED:
                    _detach_inputs(graph, node)
    for kind in ("prim::fork", "prim::awaitable"):
        for node in graph.findAllNodes(kind):
            _separate(node.g("Subgraph"))


def places_that_set_gradients(graph: Any) -> list[tuple[str, str]]:
    """Lists where a graph sets whether gradients are on, for all that comes after it: as `place_of` does.

    The `__enter__` of a class may do so, too.
    """
    found = list(map(place_of, graph.findAllNodes(_SETTING)))
    for node in graph.findAllNodes("prim::Enter"):
        function = None if _is_no_grad(node) else find_function(f"{_type_of(node)}.__enter__")
        if function is not None:
            entering = inlined(function.graph)
            found += map(place_of, entering.findAllNodes(_SETTING))
    return found


def casts_that_vary(graph: Any) -> list[tuple[str, str, str]]:
    """Lists the regions of autocast whose arguments are no constants: the argument's name, and as `place_of` does."""
    found = []
    for node in graph.findAllNodes("prim::Enter"):
        made = next(node.inputs())
        names = _OF_AUTOCAST.get(_MANGLED.sub("", _type_of(node)), ())
        for use in made.uses():
            if use.user.kind() == "prim::CallMethod" and use.user.s("name") == "__init__":
                given = zip(names, list(use.user.inputs())[1:], strict=False)
                varying = [name for name, value in given if value.node().kind() != "prim::Constant"]
                found += [(name, *place_of(use.user)) for name in varying if name != "cache_enabled"]
    return found


def _in_regions(block: Any, depth: int) -> Iterator[Any]:
    """Yields the operators of a block that are in a region. `depth`: of how many regions the whole block is a part."""
    for node in block.nodes():
        if node.kind() in ("prim::Enter", "prim::Exit"):
            if _is_no_grad(node):
                depth += 1 if node.kind() == "prim::Enter" else -1
        elif depth > 0 and not node.kind().startswith("prim::"):
            yield node
        for inner in node.blocks():
            yield from _in_regions(inner, depth)


def _detach_inputs(graph: Any, node: Any) -> None:
    """Gives an operator detached tensors, unless it changes one of them."""
    if "!" in node.schema():
        return
    for position, value in enumerate(list(node.inputs())):
        if value.type().kind() == "TensorType":
            detached = graph.create("aten::detach", [value], 1)
            detached.i_(_ATTRIBUTE, 1)
            detached.insertBefore(node)
            node.replaceInput(position, detached.output())


def _is_no_grad(node: Any) -> bool:
    return _NO_GRAD.fullmatch(_type_of(node)) is not None


def _type_of(node: Any) -> str:
    return str(next(node.inputs()).type().annotation_str)
