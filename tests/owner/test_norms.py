"""Embeddings shorten the rows that they look up. TorchScript alone forgets that."""

from typing import Optional

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import torchremote as tr
from torchremote.errors import CreationError
from torchremote.jit import compile_interface
from torchremote.owner.scripting import scripted_module

from .places import names_its_line


class OnTensor:
    def forward(self, x: Tensor) -> Tensor: ...


def table(make, **options):
    torch.manual_seed(0)
    return make(6, 4, max_norm=0.5, **options)


class Alone(nn.Module):
    def __init__(self, kind: type = nn.Embedding, **options):
        super().__init__()
        self.table = table(kind, **options)

    def forward(self, x: Tensor) -> Tensor:
        return self.table(x)


class Tied(nn.Module):
    """Shares the weight, and has the part under two names."""

    def __init__(self, kind: type = nn.Embedding, **options):
        super().__init__()
        self.table = table(kind, **options)
        self.again, self.parts = self.table, nn.ModuleList([self.table])
        self.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            y = part(x)
        return y.sum() + self.again(x).sum(0) @ self.weight.t()


ONE, TWO = torch.tensor([1, 3, 1]), torch.tensor([[1, 3, 1], [0, 2, 2]])
MADE = [
    ({}, ONE),
    ({}, TWO.t()),
    ({"norm_type": 1.0, "padding_idx": 3, "scale_grad_by_freq": True}, ONE),
    ({"kind": nn.EmbeddingBag}, TWO),
    ({"kind": nn.EmbeddingBag, "mode": "max", "padding_idx": 2}, TWO),
]


@pytest.mark.parametrize("make", [Alone, Tied])
@pytest.mark.parametrize(("options", "x"), MADE)
def test_rows_are_shortened(owner, make, options, x):
    module, stub = make(**options), tr.create(owner, OnTensor, make, kwargs=options)
    assert tr.at_owner(stub).state_dict().keys() == module.state_dict().keys()
    for given in (x, x + 1, x):
        torch.testing.assert_close(stub(given), module(given))
        torch.testing.assert_close(dict(tr.at_owner(stub).state_dict()), dict(module.state_dict()))


class OnInput:
    def forward(self, input: Tensor) -> Tensor: ...


def test_the_whole_module_may_be_an_embedding(owner):
    module, stub = table(nn.Embedding), tr.create(owner, OnInput, table, args=(nn.Embedding,))
    torch.testing.assert_close(stub(ONE), module(ONE))


def test_the_module_itself_stays_what_it_is():
    module = nn.Sequential(table(nn.Embedding))
    scripted_module(module, compile_interface(OnTensor).interface)
    assert type(module[0]) is nn.Embedding


class Function(nn.Module):
    def __init__(self, limit: Optional[float] = 0.5):
        super().__init__()
        torch.manual_seed(0)
        self.weight, self.limit = nn.Parameter(torch.randn(6, 4)), limit

    def forward(self, x: Tensor) -> Tensor:
        return F.embedding(x, self.weight, max_norm=self.limit)


class Bag(Function):
    def forward(self, x: Tensor) -> Tensor:
        return F.embedding_bag(x, self.weight, None, 0.5)


def looked_up(x: Tensor, weight: Tensor, limit: Optional[float]) -> Tensor:
    return F.embedding(x, weight, max_norm=limit)


class InAFunction(Function):
    def forward(self, x: Tensor) -> Tensor:
        return looked_up(x, self.weight, 0.5)


class InARegion(Function):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return F.embedding(x, self.weight, max_norm=0.5)


@pytest.mark.parametrize("make", [Function, Bag, InAFunction, InARegion])
def test_a_function_with_a_norm_is_refused_with_its_place(make):
    for given in (make(), make(), torch.jit.script(make())):
        with pytest.raises(CreationError, match=r"may get a max_norm, .* give examples= of its arguments") as found:
            tr.serve(given, OnTensor, "never")
        assert names_its_line(str(found.value), __file__)


class Derived(nn.Embedding):
    """Is none of torch's classes, and not replaced."""


@pytest.mark.parametrize("module", [torch.jit.script(table(nn.Embedding)), Derived(6, 4, max_norm=0.5)])
def test_what_is_not_replaced_is_refused(module):
    with pytest.raises(
        CreationError, match=r"(Embedding|Derived).forward \(.*sparse.py.*use nn.Embedding or nn.EmbeddingBag"
    ):
        tr.serve(module, OnTensor, "never")


@pytest.mark.parametrize("make", [Function, Bag, InAFunction])
def test_with_examples_it_is_right(owner, make):
    module, stub = make(), tr.create(owner, OnTensor, make, examples={"forward": (TWO,)})
    for _ in range(2):
        torch.testing.assert_close(stub(TWO), module(TWO))
        torch.testing.assert_close(tr.at_owner(stub).state_dict()["weight"], module.weight.detach())


def test_a_function_without_a_norm_is_hosted(owner):
    module, stub = Function(None), tr.create(owner, OnTensor, Function, args=(None,))
    torch.testing.assert_close(stub(ONE), module(ONE))
