"""A part with two names that changes itself, of which TorchScript would make two, is refused; others are not."""

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
