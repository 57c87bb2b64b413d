"""Writes nodes into a graph that was not run yet, for the files that guard what it does."""

from __future__ import annotations

from typing import Any, Final

import torch

_C: Any = torch._C  # its type stubs lack many names

GUARDED: Final = "guarded"
"""An attribute of a node that has its guard. No kernel ever sees it."""


def write(graph: Any, before: Any, operator: str, *inputs: Any, kind: Any) -> Any:
    """Writes an operator before a node, and returns its result, of that type. Errors show the node's line."""
    node = graph.create(operator, list(inputs), 1)
    node.insertBefore(before)
    node.copyMetadata(before)
    node.output().setType(kind)
    return node.output()


def number(graph: Any, before: Any, value: int) -> Any:
    """Writes a constant before a node, and returns it."""
    constant = write(graph, before, "prim::Constant", kind=_C.IntType.get())
    constant.node().i_("value", value)
    return constant


def is_constant(value: Any) -> bool:
    """Says whether a value is a constant of its graph."""
    return bool(value.node().kind() == "prim::Constant")
