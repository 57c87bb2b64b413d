"""Checks what users give for remote modules, before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ... import _torch
from ...errors import ArgumentError, PlaceError
from ...jit.read.shown import repr_of
from ...link.words import first_line


def check_context(where: str, method: str) -> None:
    """Raises ArgumentError where torch makes tensors without values of their own. `where`: names the module."""
    if _torch.is_transforming() or _torch.in_fake_mode():
        raise ArgumentError(
            f"{where}: {method} under a torch.func transform such as vmap, or under a FakeTensorMode, whose "
            "tensors have no values to copy; call it outside"
        )


def check_is_bool(method: str, what: str, given: object) -> None:
    """Raises ValueError if what a user gives to a method is neither True nor False. `what`: says what it is."""
    if not isinstance(given, bool):
        raise ValueError(f"{method}({repr_of(given)}): {what} is True or False")


def check_is_mapping(where: str, state_dict: object) -> None:
    """Raises ArgumentError if a state is no mapping. `where`: names the module in the error."""
    if not isinstance(state_dict, Mapping):
        raise ArgumentError(
            f"{where}: load_state_dict({type(state_dict).__name__}): not a mapping of tensors; give what "
            "state_dict() returned"
        )


def check_values(where: str, state_dict: Mapping[str, Any]) -> None:
    """Raises ArgumentError if a value of a state is no tensor that can be copied to another process."""
    for name, value in state_dict.items():
        is_tensor = isinstance(value, torch.Tensor)
        if not is_tensor or value.layout != torch.strided or value.is_meta or value.is_quantized:
            kind = f"{value.layout}, {value.dtype}, on {value.device}" if is_tensor else type(value).__name__
            raise ArgumentError(
                f"{where}: {name} is no strided tensor with plain values, but: {kind}; give a tensor that is one, as "
                "to_dense() and dequantize() return it"
            )


def check_is_device(where: str, device: object) -> None:
    """Raises PlaceError if torch does not read `device` as one."""
    if not isinstance(device, (str, torch.device)):
        raise PlaceError(f"{where}: to({repr_of(device)}): no device; write one as torch does, such as 'cuda:1'")
    try:
        torch.device(device)
    except RuntimeError as error:
        raise PlaceError(f"{where}: to({device!r}): no device: {first_line(error)}") from None
