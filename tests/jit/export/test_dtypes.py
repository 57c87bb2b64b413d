"""A refused call is told the dtype that came, by its name, whichever torch has."""

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr

from .zoo import OnTensor

DTYPES = sorted({value for value in vars(torch).values() if isinstance(value, torch.dtype)}, key=str)


class Converting:
    def forward(self, x: Tensor, dtype: torch.dtype) -> Tensor: ...


class Converts(nn.Module):
    def forward(self, x, dtype):
        return x.to(dtype)


def test_every_dtype_has_its_name():
    exported = tr.exported(Converts(), Converting, {"forward": (torch.ones(3), torch.float32)})
    for dtype in DTYPES:
        if dtype != torch.float32:
            with pytest.raises(torch.jit.Error) as raised:
                exported(torch.ones(3), dtype)
            assert f"dtype: exported for torch.float32; came {str(dtype).removeprefix('torch.')};" in str(raised.value)


@pytest.mark.parametrize("dtype", [torch.complex128, torch.int8, torch.int16, torch.float8_e4m3fn, torch.uint64])
def test_so_has_that_of_a_tensor(dtype):
    exported = tr.exported(nn.ReLU(), OnTensor, {"forward": (torch.ones(3, 4),)})
    with pytest.raises(torch.jit.Error, match=rf"float32 \[any, any\]; came {str(dtype)[6:]} \[2, 3\]"):
        exported(torch.empty(2, 3, dtype=dtype))
