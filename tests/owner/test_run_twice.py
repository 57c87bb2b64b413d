"""Calls that change something, and would run twice, are refused; others are right."""

from typing import List

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import CreationError

from .places import names_its_line

X = torch.arange(16.0).view(4, 4)


class OnTensor:
    def forward(self, x: Tensor) -> Tensor: ...


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.n, self.taken = 0, [0, 0, 0, 0]
        self.norm = nn.BatchNorm1d(4)

    def next(self) -> int:
        self.n += 1
        return self.n

    def through(self) -> int:
        return self.next()

    def middle(self, n: int) -> int:
        row = torch.zeros(n)
        row[0] = 1
        row.add_(1)
        rows = [n]
        rows.append(2)
        n += 1
        return n // 2


def draw() -> float:
    return float(torch.rand(1).item() + 0.5)


class Between(Counts):
    def forward(self, x: Tensor) -> Tensor:
        return x + (1 if 0 < self.next() < 9 else 2) + self.n


class Drawn(Counts):
    def forward(self, x: Tensor) -> Tensor:
        inside = 0.1 < draw() < 0.9
        return x + (1 if inside else 2) + torch.rand(1)


class Index(Counts):
    def forward(self, x: Tensor) -> Tensor:
        return x[self.through()]


class Column(Counts):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.next()]


class Rest(Counts):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.next() % 4


class Stored(Counts):
    def forward(self, x: Tensor) -> Tensor:
        y = x.clone()
        y[self.next()] += 5
        return y


class Popped(Counts):
    def forward(self, x: Tensor) -> Tensor:
        rows = [0, 1, 2, 3]
        y = x[rows.pop()]
        return y + len(rows)


class Normed(Counts):
    def forward(self, x: Tensor) -> Tensor:
        y = x[self.norm(x).argmax() % 4]
        steps = self.norm.num_batches_tracked
        assert steps is not None
        return y + steps


@pytest.mark.parametrize("make", [Between, Drawn, Index, Column, Rest, Stored, Popped, Normed])
def test_a_call_that_would_run_twice_is_refused(make):
    torch.manual_seed(0)
    local = make()(X)
    torch.manual_seed(0)
    assert not torch.equal(torch.jit.script(make())(X), local)  # the reason
    with pytest.raises(CreationError, match="more than once in TorchScript.*put its result in a name first") as found:
        tr.serve(make(), OnTensor, "never")
    assert names_its_line(str(found.value), __file__)


class Right(Counts):
    def forward(self, x: Tensor) -> Tensor:
        n = self.next()
        self.n = 0 if n > 1 else n
        y = x[n % 4] + x[self.middle(2), self.middle(3)] + x[self.next() - 2 :].sum() + x[torch.randperm(4)].sum()
        self.taken[self.next() - 2] += 1
        if 0 < self.middle(2) < 3 and 0 < self.n < self.next():
            y = y + self.taken[self.middle(3)] + self.next()
        return y + x[x.argmax() % 4] + self.n


def test_others_are_hosted_and_right(owner):
    stub, local = tr.create(owner, OnTensor, Right), Right()
    for _ in range(3):
        assert torch.equal(stub(X), local(X))


def sorted_rows(x: Tensor, rows: Tensor) -> Tensor:
    return x[rows[rows.sort()[1]]] + x[rows[rows[:].sort(descending=True)[1]]]


class Sorted(Counts):
    """Sorts tensors, as torchvision does after its nms."""

    def forward(self, x: Tensor) -> Tensor:
        return sorted_rows(x, torch.tensor([2, 0, 3]))


class SortedList(Counts):
    def forward(self, x: Tensor) -> Tensor:
        return x[self.order(self.taken)]

    def order(self, rows: List[int]) -> int:
        rows.sort(reverse=True)
        return rows[-1]


def test_a_sorted_tensor_is_another_one_and_a_sorted_list_is_not(owner):
    assert torch.equal(tr.create(owner, OnTensor, Sorted)(X), Sorted()(X))
    with pytest.raises(CreationError, match="more than once in TorchScript"):
        tr.serve(SortedList(), OnTensor, "never")


class Step(nn.Module):
    def forward(self, k: int) -> int:
        return k + 1


class Steps(nn.Module):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def forward(self, k: int) -> int:
        return self.step(k)


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.n = 0

    def forward(self, k: int) -> int:
        self.n += 1
        return self.n


class OfScripted(nn.Module):
    def __init__(self, step):
        super().__init__()
        self.steps = torch.jit.script(Steps(step))

    def forward(self, x: Tensor) -> Tensor:
        return x if 1 < self.steps.step(1) < 3 else -x


def test_a_part_of_a_scripted_module_is_called_as_others_are(owner):
    module = OfScripted(Step())
    assert torch.equal(tr.create(owner, OnTensor, OfScripted, args=(Step(),))(X), module(X))
    with pytest.raises(CreationError, match=r"runs `self.steps.step\(1\)` more than once in TorchScript"):
        tr.serve(OfScripted(Counting()), OnTensor, "never")
