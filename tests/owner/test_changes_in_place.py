"""An assignment that TorchScript would not make in place is refused by each name of the tensor; others are not."""

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

    def forward(self, x: Tensor) -> Tensor:
        done = self.done
        done |= x > 1
        return self.done


class Power(nn.Module):
    def __init__(self):
        super().__init__()
        self.decay = torch.full((2,), 0.5)

    def forward(self, x: Tensor) -> Tensor:
        decay = self.decay
        decay **= 2
        return self.decay


@pytest.mark.parametrize(("make", "remedy"), [(Done, "done.bitwise_or_(x > 1)"), (Power, "decay.pow_(2)")])
def test_an_assignment_that_would_not_be_in_place_is_refused(make, remedy):
    x = torch.tensor([0.0, 2.0])
    assert not torch.equal(torch.jit.script(make())(x), make()(x))  # the reason
    with pytest.raises(CreationError) as found:
        tr.serve(make(), OnTensor, "never")
    assert str(found.value).endswith(f"the module's own one would stay as it was; write `{remedy}`")


class Chosen(Done):
    def forward(self, x: Tensor) -> Tensor:
        done = self.done if x.dim() == 1 else x > 0
        done |= x > 1
        return self.done


class Twice(Done):
    def forward(self, x: Tensor) -> Tensor:
        own = self.done
        done = own
        done |= x > 1
        return self.done


class View(Done):
    def forward(self, x: Tensor) -> Tensor:
        done = self.done.view(1, 2)[0]
        done |= x > 1
        return self.done


class Reshaped(Done):
    def forward(self, x: Tensor) -> Tensor:
        done = torch.unsqueeze(self.done.reshape(2, 1), 0)
        done |= (x > 1)[:, None]
        return self.done


class Rows(Done):
    def forward(self, x: Tensor) -> Tensor:
        for i, row in enumerate(self.done):
            row |= x[i] > 1
        return self.done


class Later(Done):
    def forward(self, x: Tensor) -> Tensor:
        done = x > 5
        for _ in range(2):
            done |= x > 1
            done = self.done
        return self.done


class Left(Done):
    def forward(self, x: Tensor) -> Tensor:
        done = x > 5
        for i in range(2):
            done = self.done
            if x[i] > -5:
                break
            done = x > 4
        done |= x > 1
        return self.done


class Pair(Done):
    def forward(self, x: Tensor) -> Tensor:
        done, limit = self.done, 1
        done |= x > limit
        return self.done


class Annotated(Done):
    def forward(self, x: Tensor) -> Tensor:
        done: Tensor = self.done
        done |= x > 1
        return self.done


class InAList(Done):
    def __init__(self):
        super().__init__()
        self.all = [self.done]

    def forward(self, x: Tensor) -> Tensor:
        done = self.all[0]
        done |= x > 1
        return self.all[0]


class Helped(Done):
    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 1:
            self.add(1, done=self.done)
        return self.done

    def add(self, limit: int, done: Tensor) -> None:
        self.add_to(done[:], limit)

    def add_to(self, done: Tensor, limit: int) -> Tensor:
        done |= torch.tensor([False, True])
        return done


class OfAPart(Done):
    def __init__(self):
        super().__init__()
        self.part = Changing()

    def forward(self, x: Tensor) -> Tensor:
        self.part(self.done, x)
        return self.done


class Changing(nn.Module):
    def forward(self, done: Tensor, x: Tensor) -> Tensor:
        done |= x > 1
        return done


@pytest.mark.parametrize(
    "make", [Chosen, Twice, View, Reshaped, Rows, Later, Left, Pair, Annotated, InAList, Helped, OfAPart]
)
def test_other_names_of_a_modules_tensor_are_refused(make):
    x = torch.tensor([0.0, 2.0])
    assert not torch.equal(torch.jit.script(make())(x), make()(x))  # the reason
    with pytest.raises(CreationError, match=r"own one would stay as it was; write `\w+\.bitwise_or_\(") as found:
        tr.serve(make(), OnTensor, "never")
    assert names_its_line(str(found.value), __file__)


class Right(Done):
    def forward(self, x: Tensor) -> Tensor:
        done = self.done
        done.bitwise_or_(x > 1)
        self.done |= x > 3
        mask = x > 2
        mask |= done
        steps = self.done.sum()
        steps += 1
        return self.done & mask & (steps > 0)


class RightNames(Done):
    """Gives names of the module's tensor to others before they are changed."""

    def forward(self, x: Tensor) -> Tensor:
        done = self.done
        done = done | (x > 1)
        done |= x > 2
        row = self.done[x > 1]
        row |= torch.tensor(True)
        mask = self.done[:1] & (x > 0)
        mask |= x > 3
        if x.dim() > 1:
            other = self.done
            if x.dim() > 2:
                return other
            other = other.clone()
        else:
            other = x > 2
        other |= x > 1
        limits, bits = self.done, 3
        bits |= 4
        for _ in range(2):
            turn = self.done
            turn = turn.logical_not()
            turn |= x > 4
            mask = mask & turn
        return self.changed(x > 2, x) | done | mask | other | limits | (row.sum() + bits > 20)

    def changed(self, done: Tensor, x: Tensor) -> Tensor:
        done |= x > 3
        return done


@pytest.mark.parametrize("make", [RightNames])
def test_other_code_is_hosted_and_right(owner, make):
    stub, local = tr.create(owner, OnTensor, make), make()
    for x in (torch.tensor([0.0, 2.0]), torch.tensor([4.0, 0.0]), torch.tensor([-3.0, 6.0]), torch.zeros(2)):
        assert torch.equal(stub(x), local(x))


def test_other_assignments_are_right(owner):
    stub, local = tr.create(owner, OnTensor, Right), Right()
    for x in (torch.tensor([0.0, 2.0]), torch.tensor([4.0, 0.0]), torch.zeros(2)):
        assert torch.equal(stub(x), local(x))
