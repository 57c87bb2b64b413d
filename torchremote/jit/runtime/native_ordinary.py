"""Has the native part do what ordinary.py does: see native/tensors.cpp.

A process that uses the native part compiles this text in the place of that.
"""

from __future__ import annotations

import torch
from torch import Tensor


def has_room(value: Tensor) -> bool:
    found: bool = torch.ops.torchremote_native.has_room(value)
    return found


def like_it(copy: Tensor, value: Tensor) -> Tensor:
    made: Tensor = torch.ops.torchremote_native.like_it(copy, value)
    return made


def is_ordinary(value: Tensor) -> bool:
    found: bool = torch.ops.torchremote_native.is_ordinary(value)
    return found


def unknown_to_python(value: Tensor) -> Tensor:
    made: Tensor = torch.ops.torchremote_native.unknown_to_python(value)
    return made
