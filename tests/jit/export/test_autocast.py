"""An exported autocast region casts what it casts eagerly, also inside of operators that torch composes."""

import copy
import itertools

import pytest
import torch
from torch import nn

import torchremote as tr
from torchremote.errors import CreationError

from .zoo import OnTensor

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


class Casts(nn.Module):
    def __init__(self, part, do):
        super().__init__()
        self.part, self.do = part, do

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.do(self.part, x)


def of_sequence(part, x):
    return part(x[None])[0]


CASES = {
    "einsum": (nn.Identity(), lambda part, x: torch.einsum("ij,kj->ik", x, x)),
    "inner": (nn.Identity(), lambda part, x: torch.inner(x, x)),
    "multi_dot": (nn.Identity(), lambda part, x: torch.linalg.multi_dot([x, x.t(), x])),
    "tensordot": (nn.Identity(), lambda part, x: torch.tensordot(x, x, dims=2)),
    "matrix_power": (nn.Identity(), lambda part, x: torch.matrix_power(x @ x.t(), 3)),
    "cdist": (nn.Identity(), lambda part, x: torch.cdist(x, x)),
    "softmax": (nn.LayerNorm(4), lambda part, x: torch.softmax(part(x @ x.t() @ x), -1)),
    "convolution": (nn.Conv1d(3, 3, 3), lambda part, x: part(x[None])),
    "lstm": (nn.LSTM(4, 4), of_sequence),
    "two layers": (nn.GRU(4, 4, num_layers=2, bidirectional=True), of_sequence),
    "gru": (nn.GRU(4, 4), of_sequence),
    "tanh": (nn.RNN(4, 4), of_sequence),
    "relu": (nn.RNN(4, 4, nonlinearity="relu"), of_sequence),
    "gru cell": (nn.GRUCell(4, 4), lambda part, x: part(x)),
    "lstm cell": (nn.LSTMCell(4, 4), lambda part, x: part(x)[0]),
    "attention": (nn.MultiheadAttention(4, 2), lambda part, x: part(x[None], x[None], x[None])[0]),
    "encoder": (nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0), of_sequence),
}


def results(module, x):
    module.zero_grad()
    x = x.clone().requires_grad_()
    result = module(x)
    result.float().square().sum().backward()
    return [result, x.grad, *(one.grad for one in module.parameters())]


def same(module, exported, *calls):
    for x in calls:
        for _ in range(3):  # TorchScript differentiates the graph by itself from the third call on
            got = results(exported, x)
        wanted = results(module, x)
        assert got[0].dtype == wanted[0].dtype
        torch.testing.assert_close(got[0], wanted[0], rtol=0, atol=0)
        # Eagerly, autocast casts a weight once, and its gradients are added up in bfloat16.
        torch.testing.assert_close(got[1:], wanted[1:], rtol=5e-2, atol=2e-2)


@pytest.mark.parametrize("name", CASES)
def test_results_and_gradients_are_the_modules(name):
    torch.manual_seed(0)
    module = Casts(*copy.deepcopy(CASES[name]))
    same(module, tr.exported(copy.deepcopy(module), OnTensor, {"forward": (X,)}), X, X * 2)


@pytest.mark.filterwarnings("ignore:The tensor attributes")
@pytest.mark.parametrize("name", ["einsum", "lstm", "multi_dot"])
def test_a_program_has_the_casts(name):
    module = Casts(*copy.deepcopy(CASES[name]))
    program = torch.export.export(copy.deepcopy(module), (X,))
    exported = tr.exported({"forward": program}, OnTensor)
    with torch.no_grad():
        assert exported(X).dtype == module(X).dtype
        assert torch.equal(exported(X), module(X))


def test_dtypes_are_those_of_each_size():
    module = Casts(*CASES["einsum"])
    exported = tr.exported(module, OnTensor, {"forward": (X,)})
    for rows, columns in itertools.product([0, 1, 2, 5], repeat=2):
        x = torch.randn(rows, columns)
        if rows or columns != 1:  # there is one graph for sizes of 0, of the example's other sizes
            assert exported(x).dtype == module(x).dtype
        assert torch.equal(exported(x), module(x).to(exported(x).dtype))


def test_an_operator_that_casts_where_no_graph_can_is_refused():
    module = Casts(nn.Bilinear(4, 4, 4), lambda part, x: part(x, x))
    with pytest.raises(CreationError, match="it calls torch.nn.Bilinear in an autocast region.*outside of the region"):
        tr.exported(module, OnTensor, {"forward": (X,)})


def test_both_remedies_for_it_work():
    def do(part, x):
        return torch.einsum("bi,oij,bj->bo", x, part.weight, x) + part.bias

    module = Casts(nn.Bilinear(4, 4, 4), do)
    same(module, tr.exported(copy.deepcopy(module), OnTensor, {"forward": (X,)}), X)

    class Outside(nn.Module):
        def __init__(self):
            super().__init__()
            self.part, self.linear = nn.Bilinear(4, 4, 4), nn.Linear(4, 4)

        def forward(self, x):
            y = self.part(x, x)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return self.linear(y)

    module = Outside()
    same(module, tr.exported(copy.deepcopy(module), OnTensor, {"forward": (X,)}), X)
