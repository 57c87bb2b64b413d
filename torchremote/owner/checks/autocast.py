"""Refuses regions of autocast that TorchScript runs in another way than the module does."""

from __future__ import annotations

from typing import Any

from ... import _torch
from ...errors import CreationError
from .remedies import REMEDY


def check_autocast(where: str, graph: Any) -> None:
    """Raises CreationError if a region of autocast in a graph is given what is no constant.

    Its first call would raise, and all later ones would run without autocast, or with bfloat16 for another dtype.

    Args:
        where: names the method or function that has the graph.
    """
    for name, place, code in _torch.casts_that_vary(graph):
        raise CreationError(
            f"{where} ({place}): `{code}` does not have a constant for {name}, and TorchScript would leave autocast "
            'out, or take another dtype; write a literal, as "cpu" or torch.bfloat16, or for an attribute '
            f'`__constants__ = ["its_name"]` in the body of the class; or {REMEDY}'
        )
