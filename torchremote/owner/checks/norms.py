"""Has embeddings keep the norms of their rows, which TorchScript forgets.

Note [Norms of embeddings]
    `F.embedding(..., max_norm=)` shortens the rows that it looks up. TorchScript takes the operator that does so for
    one that changes nothing, and drops it when it compiles the function. So torch's embeddings are scripted as the
    classes below, which call another operator. Another call of the function with a norm is refused.
"""

from __future__ import annotations

import copy
import re
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ... import _torch
from ...errors import CreationError

_FUNCTION: Final = re.compile(r"__torch__\.torch\.nn\.functional\.(?:___torch_mangle_\d+\.)?embedding(_bag)?")
_MAX_NORM: Final = 4  # its position in a call of either function


class Embedding(nn.Embedding):
    """Does what torch's class does."""

    def forward(self, input: Tensor) -> Tensor:
        assert self.max_norm is not None
        torch.embedding_renorm_(self.weight.detach(), input.contiguous(), self.max_norm, self.norm_type)
        return F.embedding(
            input, self.weight, self.padding_idx, None, self.norm_type, self.scale_grad_by_freq, self.sparse
        )


class EmbeddingBag(nn.EmbeddingBag):
    """Does what torch's class does."""

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        assert self.max_norm is not None
        torch.embedding_renorm_(self.weight.detach(), input.contiguous(), self.max_norm, self.norm_type)
        return F.embedding_bag(
            input,
            self.weight,
            offsets,
            None,
            self.norm_type,
            self.scale_grad_by_freq,
            self.mode,
            self.sparse,
            per_sample_weights,
            self.include_last_offset,
            self.padding_idx,
        )


_KEEPING: Final[dict[type, type]] = {nn.Embedding: Embedding, nn.EmbeddingBag: EmbeddingBag}


def keeping_norms(module: nn.Module) -> nn.Module:
    """Returns a module of one of the classes above for one of torch's that has a norm, and others as they are."""
    keeping = _KEEPING.get(type(module))
    if keeping is None or module.max_norm is None:
        return module
    copied = copy.copy(module)
    copied.__class__ = keeping
    return copied


def check_norms(where: str, graph: Any) -> None:
    """Raises CreationError if a graph looks up rows with a norm, which TorchScript would forget.

    Args:
        where: names the method or function that has the graph.
    """
    for node in graph.findAllNodes("prim::CallFunction"):
        function, *_ = inputs = list(node.inputs())
        is_embedding = _FUNCTION.fullmatch(str(function.type().annotation_str)) is not None
        if is_embedding and inputs[_MAX_NORM].type().kind() != "NoneType":
            place, code = _torch.place_of(node)
            raise CreationError(
                f"{where} ({place}): `{code}` may get a max_norm, which TorchScript forgets, so rows would stay as "
                "long as they are; give examples= of its arguments, or use nn.Embedding or nn.EmbeddingBag themselves, "
                "and do not script them before"
            )
