"""State that TorchScript would have twice, or not change in place, is refused; other code is not."""

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import CreationError


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


def test_other_assignments_are_right(owner):
    stub, local = tr.create(owner, OnTensor, Right), Right()
    for x in (torch.tensor([0.0, 2.0]), torch.tensor([4.0, 0.0]), torch.zeros(2)):
        assert torch.equal(stub(x), local(x))
