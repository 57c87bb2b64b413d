"""`torch.tensor` of an item or a tensor, which would be a float, is refused; with its kind it is right."""

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import CreationError

from .places import names_its_line

X = torch.tensor([2000000001, 9])


class OnTensor:
    def forward(self, x: Tensor) -> Tensor: ...


class Item(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor(x.sum().item())


class Typed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor(x.sum().item() + 1, dtype=torch.int64)


class Named(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        largest = x.max().item()
        return torch.as_tensor(largest)


class OfBool(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor(x.any().item())


class Several(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([x.max().item(), x.min().item()])


class OfTensor(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor(x[0])


class OfTensorsThere(nn.Module):
    """Chooses the variant for a float, as the device is a text."""

    def forward(self, x: Tensor) -> Tensor:
        where = "cpu"
        return torch.as_tensor(x[0], device=where)


class OfTensorsAtAnAttribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.device = "cpu"

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(x[0], device=self.device)


class OfSeveralTensors(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor([x[0], x[1]])


def outcome(module):
    try:
        return repr(module(X).tolist())
    except RuntimeError as error:
        return str(error)


@pytest.mark.filterwarnings("ignore:To copy construct")
@pytest.mark.parametrize(
    "make", [Item, Typed, Named, OfBool, Several, OfTensor, OfTensorsThere, OfTensorsAtAnAttribute, OfSeveralTensors]
)
def test_a_tensor_of_a_number_of_unknown_kind_is_refused(make):
    assert outcome(torch.jit.script(make())) != outcome(make())  # the reason
    with pytest.raises(CreationError, match="whose kind TorchScript does not know.*write `(int|device)") as found:
        tr.serve(make(), OnTensor, "never")
    assert names_its_line(str(found.value), __file__)


class Right(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        largest = int(x.max().item())
        some = torch.tensor([bool(x.any().item())]) & torch.tensor(len(x) > 1)
        full = torch.full((2,), x.sum().item()) + x.sum().item() + torch.tensor([largest, int(x[0])])
        return full * some + torch.as_tensor(0.5)


class AsTensor(nn.Module):
    """Makes tensors of tensors, which are these themselves."""

    def __init__(self):
        super().__init__()
        self.device = torch.device("cpu")
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        device = x.device
        there = torch.as_tensor(x, device=self.device) + torch.as_tensor(x, device=self.weight.device)
        there = there + torch.as_tensor(x[1], device=device) + torch.as_tensor(x[0], device=torch.device("cpu"))
        kept = torch.as_tensor(x)
        kept += 1
        return torch.as_tensor(x[0]) + torch.as_tensor(data=x, dtype=torch.float64) + there


@pytest.mark.parametrize("make", [Right, AsTensor])
def test_others_are_hosted_and_right(owner, make):
    assert torch.equal(tr.create(owner, OnTensor, make)(X.clone()), make()(X.clone()))
