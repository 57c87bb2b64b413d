"""Tells tensors that can be sent as they are from all others, and makes what is sent in their place.

A process compiles this text once, for all interfaces, on top of the text of tensors.py.
"""

# In TorchScript, a layout is an integer: 0 is strided.
# mypy: disable-error-code="operator,comparison-overlap,unreachable"

from __future__ import annotations

import torch
from torch import Tensor

from .tensors import BFLOAT16, FIRST_QUANTIZED, has_room, like_it


def is_ordinary(value: Tensor) -> bool:
    # Says whether a tensor is one of nearly all: such a one is sent as it is. Others are looked at more closely.
    is_common = value.dtype < FIRST_QUANTIZED or value.dtype == BFLOAT16
    if value.is_cpu and value.layout == 0 and is_common and value.numel() > 0 and not value.is_nested:
        return not value._is_zerotensor() and has_room(value)
    return False


def unknown_to_python(value: Tensor) -> Tensor:
    # See Note [Tensors that Python knows]. One that autograd may record stays: see caller/messages/kept_tensors.py.
    if value.requires_grad and torch.is_grad_enabled():
        return value
    return like_it(value.data, value)
