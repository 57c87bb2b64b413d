"""Refuses what sets whether gradients are on for more than a `with`, which would outlast the call."""

from __future__ import annotations

from typing import Any

from ... import _torch
from ...errors import CreationError


def check_grad_mode(where: str, graph: Any) -> None:
    """Raises CreationError if a graph sets the grad mode of its thread, which later calls of any module would get.

    Args:
        where: names the method or function that has the graph.
    """
    for place, code in _torch.places_that_set_gradients(graph):
        raise CreationError(
            f"{where} ({place}): `{code}` turns gradients on or off for the thread, also for calls of other modules "
            "that it runs later; write `with torch.no_grad():` around what needs none"
        )
