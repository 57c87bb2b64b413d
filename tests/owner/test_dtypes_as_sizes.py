"""A dtype that TorchScript takes for a size is refused; other code is not."""

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import CreationError

from .places import names_its_line


class OnTensor:
    def forward(self, x: Tensor) -> Tensor: ...


BITS = torch.int32


class View(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(torch.int32)


class Global(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.abs().view(BITS)


class Local(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        bits = torch.int32
        wanted = bits
        return x.view(wanted)


class Declared(nn.Module):
    def __init__(self):
        super().__init__()
        self.bits = torch.int32

    def forward(self, x: Tensor) -> Tensor:
        return self.viewed(x, self.bits)

    def viewed(self, x: Tensor, bits: torch.dtype) -> Tensor:
        return x.view(bits)


class Attribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.bits = torch.int32

    def forward(self, x: Tensor) -> Tensor:
        return x.view(self.bits)


class OfATensor(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        bits = x.to(torch.int32)
        return x.view(bits.dtype)


class Either(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(torch.int32 if x.dim() == 1 else torch.int64)


class Promoted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.to(torch.int16).view(torch.promote_types(torch.int32, torch.int16))


class Operator(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.aten.view(x, torch.int32)


@pytest.mark.parametrize("make", [View, Local, Declared, Attribute, OfATensor, Either, Operator])
def test_what_would_be_wrong_is_refused_with_method_line_and_remedy(make):
    x = torch.tensor([1.0, 2.0, 3.0])
    assert torch.equal(torch.jit.script(make())(x), x)  # the reason
    assert not torch.equal(make()(x), x)
    with pytest.raises(CreationError, match=r"view\(.*passes a dtype, .*; write `torch.view_copy\(x") as found:
        tr.serve(make(), OnTensor, "never")
    assert names_its_line(str(found.value), __file__)


class ByKeyword(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(dtype=torch.int32)


class Ones(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.ones(3, torch.float64)


class NewZeros(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(3, x.dtype)


@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (Promoted, "torch.view_copy(x.to(torch.int16), torch.promote_types(torch.int32, torch.int16))"),
        (Global, "torch.view_copy(x.abs(), BITS)"),
        (ByKeyword, "torch.view_copy(x, torch.int32)"),
        (Ones, "dtype=torch.float64"),
        (NewZeros, "dtype=x.dtype"),
    ],
)
def test_others_that_are_refused(make, remedy):
    with pytest.raises(CreationError) as found:
        tr.serve(make(), OnTensor, "never")
    assert str(found.value).endswith(f"write `{remedy}`")


class Right(nn.Module):
    """Passes dtypes to what takes dtypes, and sizes to what takes sizes."""

    def __init__(self):
        super().__init__()
        self.dtype = 3
        self.part = Viewing()

    def forward(self, x: Tensor) -> Tensor:
        bits = torch.view_copy(x, torch.int32)
        dtype = 3
        sized = torch.zeros(3, dtype=x.dtype).view(self.dtype).view(dtype).to(torch.float64)
        return self.part.view(x, torch.int32) + bits.softmax(0, torch.float64) + sized + zeros(x, torch.float32)


class Viewing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x

    def view(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return x.to(dtype)


def zeros(x: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros_like(x, dtype=dtype)


def test_what_is_right_is_hosted(owner):
    x = torch.tensor([1.0, 2.0, 3.0])
    scripted = tr.create(owner, OnTensor, Right)(x)
    assert torch.equal(scripted, Right()(x).to(scripted.dtype))
