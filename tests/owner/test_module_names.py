"""A name that TorchScript would leave with the module that it had is refused; other names are right."""

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import CreationError

X = torch.ones(2)


class OnTensor:
    def forward(self, x: Tensor) -> Tensor: ...


class Add(nn.Module):
    def __init__(self, k: float):
        super().__init__()
        self.k = k

    def forward(self, x: Tensor) -> Tensor:
        return x * 10 + self.k


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Add(1.0), Add(2.0), Add(3.0)])
        self.a, self.b = Add(5.0), Add(6.0)


class Slice(Layers):
    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        for layer in self.layers[:2]:
            x = layer(x)
        return x


class Numbered(Layers):
    def forward(self, x: Tensor) -> Tensor:
        layer = self.a
        for i, layer in enumerate(self.layers[::2]):
            x = layer(x) + i
        return x


class Listed(Layers):
    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        for layer in (self.a, self.b):
            x = layer(x)
        return x


class Several(Layers):
    def forward(self, x: Tensor) -> Tensor:
        layer = self.a
        n, layer = 1, self.b
        return layer(x) * n


class Part(Layers):
    def forward(self, x: Tensor) -> Tensor:
        layers = self.layers
        layers = self.layers[1:]
        for layer in layers:
            x = layer(x)
        return x


@pytest.mark.parametrize("make", [Slice, Numbered, Listed, Several, Part])
def test_a_name_that_would_stay_with_its_module_is_refused(make):
    assert not torch.equal(torch.jit.script(make())(X), make()(X))  # the reason
    with pytest.raises(CreationError, match="`layers?` would still be the module that it was before"):
        tr.serve(make(), OnTensor, "never")


class Right(Layers):
    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        for i, layer in enumerate(self.layers):
            x = layer(x) + i
        layer = self.a
        x = layer(x)
        layer = self.layers[0]
        n, y = len(self.layers), layer(x)
        n, x = n + 1, self.b(y)
        return x * n


def test_others_are_hosted_and_right(owner):
    assert torch.equal(tr.create(owner, OnTensor, Right)(X), Right()(X))
