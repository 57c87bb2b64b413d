"""State that TorchScript would have twice, or not change in place, is refused; other code is not."""

from typing import List

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import CreationError

from .places import names_its_line


class OnTensor:
    def forward(self, x: Tensor) -> Tensor: ...


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        self.hidden = self.hidden + x.sum()
        return self.hidden


class ActorCritic(nn.Module):
    def __init__(self, make=Encoder):
        super().__init__()
        self.actor = make()
        self.critic = self.actor

    def forward(self, x: Tensor) -> Tensor:
        self.actor(x)
        return self.critic(x)


class Listed(nn.Module):
    def __init__(self):
        super().__init__()
        encoder = Encoder()
        self.layers = nn.ModuleList([encoder, nn.Sequential(encoder)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.mark.parametrize(
    ("make", "names"), [(ActorCritic, "actor and critic"), (Listed, r"layers\.0 and layers\.1\.0")]
)
def test_a_part_with_two_names_that_changes_itself_is_refused(make, names):
    x = torch.ones(2)
    assert not torch.equal(torch.jit.script(make())(x), make()(x))  # the reason
    with pytest.raises(CreationError, match=f"{names} are one Encoder, .* its forward assigns self.hidden"):
        tr.serve(make(), OnTensor, "never")


class InPlace(Encoder):
    def forward(self, x: Tensor) -> Tensor:
        self.hidden.add_(x.sum())
        return self.hidden.clone()


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.BatchNorm1d(1, affine=False), nn.Dropout(0.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x[:, None])[:, 0]


@pytest.mark.parametrize("part", [InPlace, Plain])
def test_others_may_have_two_names(owner, part):
    stub, local = tr.create(owner, OnTensor, ActorCritic, args=(part,)), ActorCritic(part)
    for x in (torch.ones(2), torch.arange(3.0), torch.ones(2)):
        assert torch.equal(stub(x), local(x))


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


@pytest.mark.parametrize("make", [Remedied, RightItems, RightNames])
def test_other_code_is_hosted_and_right(owner, make):
    stub, local = tr.create(owner, OnTensor, make), make()
    for x in (torch.tensor([0.0, 2.0]), torch.tensor([4.0, 0.0]), torch.tensor([-3.0, 6.0]), torch.zeros(2)):
        assert torch.equal(stub(x), local(x))


def test_other_assignments_are_right(owner):
    stub, local = tr.create(owner, OnTensor, Right), Right()
    for x in (torch.tensor([0.0, 2.0]), torch.tensor([4.0, 0.0]), torch.zeros(2)):
        assert torch.equal(stub(x), local(x))
