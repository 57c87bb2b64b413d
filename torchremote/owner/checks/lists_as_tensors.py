"""Refuses a tensor of a list in which TorchScript finds numbers of more than one kind, or of none that it knows.

Note [Tensors of lists]
    `torch.tensor([[0.5, 0.5], [1, 0]])` reads the bits of the integers as floats in TorchScript: its second row is
    1.4e-45 and 0. `torch.tensor([1.5, 2])` raises in each call, and so does a list of `.item()`. The types in the graph
    show it.
"""

from __future__ import annotations

import re
from typing import Any, Final

from ... import _torch
from ...errors import CreationError

_OF_ONE_KIND: Final = re.compile(r"(List\[)+(int|float|bool|complex)\]+")


def check_tensors(where: str, graph: Any) -> None:
    """Raises CreationError if a graph makes a tensor of such a list.

    Args:
        where: names the method or function that has the graph.
    """
    for node in (*graph.findAllNodes("aten::tensor"), *graph.findAllNodes("aten::as_tensor")):
        given = str(next(node.inputs()).type())
        if given.startswith("List[") and _OF_ONE_KIND.fullmatch(given) is None:
            place, code = _torch.place_of(node)
            raise CreationError(
                f"{where} ({place}): `{code}(...)` makes a tensor of {given}, which raises in TorchScript, or takes "
                "the bits of integers for floats; write numbers of one kind, as 2.0 for 2 beside 1.5, and around each "
                "that comes out of a tensor `float(...)` or `int(...)`"
            )
