"""Tells tensors that can be sent as they are from all others, and makes what is sent in their place.

A process compiles this text once, for all interfaces. The notes are in tensors.py.
"""

# In TorchScript, a layout is an integer: 0 is strided.
# mypy: disable-error-code="operator,comparison-overlap,unreachable"

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

FIRST_QUANTIZED: Final = 12
BFLOAT16: Final = 15
"""Dtypes, which are integers in TorchScript. Those before the quantized ones, and bfloat16, are nearly all that are
used."""


def has_room(value: Tensor) -> bool:
    # False if the storage is empty. Raises if it is too small, or if there is none.
    if torch.ops.aten._has_same_storage_numel(value, torch.zeros([0])):
        return False
    return value.unsqueeze(0).storage_offset() >= 0


def like_it(copy: Tensor, value: Tensor) -> Tensor:
    # If the grad mode is off, torch does not say it. Outside of inference mode, it may not be said of its tensors.
    if value.requires_grad and not copy.requires_grad and not value.is_inference():
        return copy.requires_grad_()
    return copy


def is_ordinary(value: Tensor) -> bool:
    # Says whether a tensor is one of nearly all: such a one is sent as it is. Others are looked at more closely. Those
    # that are no dense tensors in memory are not set to themselves: see tensors.py, Note [Tensors in inference mode].
    is_common = value.dtype < FIRST_QUANTIZED or value.dtype == BFLOAT16
    if value.is_cpu and value.layout == 0 and is_common and value.numel() > 0 and not value.is_nested:
        return value.is_set_to(value) and has_room(value)
    return False


def unknown_to_python(value: Tensor) -> Tensor:
    # See tensors.py, Note [Tensors that Python knows]. One that autograd may record stays: see
    # caller/messages/kept_tensors.py.
    if value.requires_grad and torch.is_grad_enabled():
        return value
    return like_it(value.data, value)
