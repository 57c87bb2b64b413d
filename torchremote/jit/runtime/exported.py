"""Shows the arguments of exported modules in errors."""

# In TorchScript, a dtype is an integer.
# mypy: disable-error-code="comparison-overlap,unreachable,assignment,arg-type"

from __future__ import annotations

from typing import Final, List

import torch
from torch import Tensor

OTHERWISE: Final = "the module was exported for other calls: "
"""The beginning of the refusal of a call that no graph is right for. link/failures.py looks for it."""


def shown_dtype(dtype: int) -> str:
    """Returns the name of a dtype, which is an integer in TorchScript."""
    if dtype == torch.float32:
        return "float32"
    if dtype == torch.int64:
        return "int64"
    if dtype == torch.bool:
        return "bool"
    if dtype == torch.float64:
        return "float64"
    if dtype == torch.float16:
        return "float16"
    if dtype == torch.bfloat16:
        return "bfloat16"
    if dtype == torch.int32:
        return "int32"
    if dtype == torch.uint8:
        return "uint8"
    if dtype == torch.complex64:
        return "complex64"
    return "dtype " + str(dtype)


def shown_tensor(tensor: Tensor) -> str:
    """Returns the dtype and the sizes of a tensor."""
    sizes: List[int] = tensor.size()
    layout = "" if tensor.layout == torch.strided else ", not strided"
    return shown_dtype(tensor.dtype) + " " + str(sizes) + layout
