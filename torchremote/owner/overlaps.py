"""Refuses to write tensors whose elements share memory, as `expand` gives them: torch cannot copy values into these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from ..errors import NotSavableError


def overlaps(tensor: torch.Tensor) -> bool:
    """Says whether two elements of a tensor are at one place in memory."""
    if tensor.layout != torch.strided or not tensor.numel():
        return False
    spans = sorted((step, size) for step, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1)
    last, is_nested = 0, True
    for step, size in spans:
        if step == 0:
            return True
        is_nested = is_nested and step > last
        last += step * (size - 1)
    if is_nested:  # a step leads over all that smaller steps reach
        return False
    reached = torch.zeros(last + 1, dtype=torch.bool, device="cpu")
    reached.as_strided(tensor.shape, tensor.stride(), 0).fill_(True)
    return int(reached.sum()) < tensor.numel()


def check_can_be_written(state: Mapping[str, torch.Tensor]) -> None:
    """Raises NotSavableError if torch could not copy the values of a state back into its tensors."""
    check_none(name for name, tensor in state.items() if overlaps(tensor))


def check_none(names: Iterable[str], where: str = "") -> None:
    """Raises NotSavableError if there are `names`, those of tensors whose elements share memory.

    Args:
        where: the beginning of the error.
    """
    found = ", ".join(names)
    if found:
        raise NotSavableError(
            f"{where}{found}: elements share memory, as after expand(), so no state can be loaded; clone() the "
            "tensor where the module is made"
        )
