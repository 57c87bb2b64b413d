"""A tensor of a list with numbers of several kinds, or of unknown ones, is refused; others are hosted and right."""

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import CreationError


class OnTensor:
    def forward(self, x: Tensor) -> Tensor: ...


class Rows(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x @ torch.tensor([[0.5, 0.5], [1, 0]])


class RowsOfADtype(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x @ torch.tensor([[1, 0], [0.5, 0.5]], dtype=torch.float32)


class Mixed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.tensor([1.5, 2])


class Named(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        row = [1.5, x.size(0)]
        return x * torch.as_tensor(row)


class InAFunction(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * weights(x)


def weights(x: Tensor) -> Tensor:
    return torch.tensor([1.5, 2])


class Items(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([row.sum().item() for row in x])


@pytest.mark.parametrize("make", [Rows, RowsOfADtype, Mixed, Named, InAFunction, Items])
def test_a_list_of_several_kinds_is_refused(make):
    x = torch.ones(2, 2)
    scripted = torch.jit.script(make())
    try:
        is_right = torch.equal(scripted(x), make()(x))
    except RuntimeError:
        is_right = False
    assert not is_right  # the reason
    for module in (make(), scripted):
        with pytest.raises(CreationError, match=r"\.py:\d+\): `torch\.\w+\(\.\.\.\)` makes a tensor of List\["):
            tr.serve(module, OnTensor, "never")


class Right(nn.Module):
    """Does what the others do, with the remedy."""

    def forward(self, x: Tensor) -> Tensor:
        x = x @ torch.tensor([[0.5, 0.5], [1.0, 0.0]]) * torch.tensor([1.5, 2.0])
        x = x * torch.as_tensor([1.5, float(x.size(0))]) + torch.tensor([[1, 2], [3, 4]]) + torch.tensor(2)
        return x + torch.tensor([float(row.sum().item()) for row in x]) * torch.tensor([[True], [False]])


def test_lists_of_one_kind_are_hosted_and_right(owner):
    x = torch.rand(2, 2)
    stub = tr.create(owner, OnTensor, Right)
    for _ in range(3):
        assert torch.equal(stub(x), Right()(x))
