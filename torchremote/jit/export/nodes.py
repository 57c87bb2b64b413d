"""Reads the nodes of an exported graph."""

from __future__ import annotations

from typing import Any

import torch


def value_of(value: Any) -> Any:
    """Returns what a value of a graph was while it was traced, such as a tensor without data or a torch.SymInt.

    Args:
        value: a node, or a constant, which is returned as it is.
    """
    return value.meta.get("val") if isinstance(value, torch.fx.Node) else value
