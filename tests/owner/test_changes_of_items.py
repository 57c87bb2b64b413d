"""An assignment to a part of a tensor, which TorchScript would drop, is refused; one to an item of a list is not."""

from typing import List

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import CreationError

from .places import names_its_line


class OnTensor:
    def forward(self, x: Tensor) -> Tensor: ...


class Done(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("done", torch.zeros(2, dtype=torch.bool))


class Item(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        mask = torch.zeros(2, dtype=torch.bool)
        mask[1] |= x[1] > 0
        return mask


class OwnItem(Done):
    def forward(self, x: Tensor) -> Tensor:
        self.done[:] |= x > 1
        return self.done


class Looped(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        mask = x > 2
        for i in range(x.size(0)):
            mask[i] ^= x[i] > 1
        return mask


class Squared(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x + 1
        y[..., -1] **= 2
        return y


class OfAList(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return self.changed([x > 5])

    def changed(self, masks: List[Tensor]) -> Tensor:
        masks[0][1] |= torch.tensor(True)
        return masks[0]


class OfAHelper(Done):
    def forward(self, x: Tensor) -> Tensor:
        mask = own(self.done)
        mask[1] |= x[1] > 1
        return mask


def own(x: Tensor) -> Tensor:
    return x


ITEMS = {
    Item: "mask[1].bitwise_or_(x[1] > 0)",
    OwnItem: "self.done[:].bitwise_or_(x > 1)",
    Looped: "mask[i].bitwise_xor_(x[i] > 1)",
    Squared: "y[..., -1].pow_(2)",
    OfAList: "masks[0][1].bitwise_or_(torch.tensor(True))",
    OfAHelper: "mask[1].bitwise_or_(x[1] > 1)",
}


@pytest.mark.parametrize(("make", "remedy"), ITEMS.items(), ids=lambda one: getattr(one, "__name__", ""))
def test_an_assignment_to_a_part_of_a_tensor_is_refused(make, remedy):
    x = torch.tensor([0.0, 2.0])
    assert not torch.equal(torch.jit.script(make())(x), make()(x))  # the reason
    with pytest.raises(CreationError) as found:
        tr.serve(make(), OnTensor, "never")
    assert str(found.value).endswith(f"so the tensor would stay as it was; write `{remedy}`")
    assert names_its_line(str(found.value), __file__)


class Remedied(Done):
    def forward(self, x: Tensor) -> Tensor:
        mask = x > 5
        mask[1].bitwise_or_(x[1] > 0)
        self.done[:].bitwise_or_(x > 1)
        y = x + 1
        y[..., -1].pow_(2)
        return y * mask * self.done


class RightItems(Done):
    """Assigns to items of lists, and to what an index of tensors picks."""

    def __init__(self):
        super().__init__()
        self.counts = [1, 2]

    def forward(self, x: Tensor) -> Tensor:
        mask, index, both = x > 5, torch.tensor([1]), torch.zeros(2, 2, dtype=torch.bool)
        mask[index] |= x[index] > 0
        mask[x > 3] ^= torch.tensor(True)
        self.done[[0]] |= x[0] > 3
        both[0, x > 1] |= torch.tensor(True)
        counts = self.limits(x)
        counts[0] |= 4
        self.counts[1] ^= 1
        flags = [x.dim() == 1, False]
        flags[1] |= True
        masks = [x > 0, x > 1]
        masks[0] |= x < -2
        limits = {"low": 1}
        limits["low"] |= commented([2], x)
        counts[1] |= Counter(2).total()
        return x * mask + self.done + both.sum() + counts[0] + self.counts[1] + flags[1] + masks[0] + limits["low"]

    def limits(self, x: Tensor) -> List[int]:
        return [1, 2]


def commented(counts, x):
    # type: (List[int], Tensor) -> int
    counts[0] |= 1
    return counts[0]


class Counter:
    def __init__(self, size: int):
        self.size = size

    def counts(self) -> List[int]:
        return [self.size, 2]

    def total(self) -> int:
        counts = self.counts()
        counts[0] |= 4
        return counts[0]


@pytest.mark.parametrize("make", [Remedied, RightItems])
def test_other_code_is_hosted_and_right(owner, make):
    stub, local = tr.create(owner, OnTensor, make), make()
    for x in (torch.tensor([0.0, 2.0]), torch.tensor([4.0, 0.0]), torch.tensor([-3.0, 6.0]), torch.zeros(2)):
        assert torch.equal(stub(x), local(x))
