"""Gradients of exported modules are torch's, also where TorchScript's own formulas differ from them."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torchremote as tr

OPERATORS = {
    "max": lambda x, y: torch.max(x, y),
    "min": lambda x, y: torch.min(x, y),
    "clamp between tensors": lambda x, y: x.clamp(y, y * 2),
    "clip by a tensor": lambda x, y: torch.clip(x, max=y),
    "clamp": lambda x, y: x.clamp(-2, 2),
    "relu": lambda x, y: F.relu(x),
    "relu6": lambda x, y: F.relu6(x),
    "hardtanh": lambda x, y: F.hardtanh(x, -2, 2),
    "hardswish": lambda x, y: F.hardswish(x),
    "hardshrink": lambda x, y: F.hardshrink(x, 2),
    "threshold": lambda x, y: F.threshold(x, 2, -1),
    "softplus": lambda x, y: F.softplus(x, 0.5, 1),
    "power of tensors": lambda x, y: x**y,
    "power of 0": lambda x, y: 0.0**x,
    "quotient of small numbers": lambda x, y: (x * 1e-25) / (y * 1e-25),
    "std": lambda x, y: y.std(0),
    "where": lambda x, y: torch.where(x > y, x, y),
    "nll_loss": lambda x, y: torch.ops.aten.nll_loss(x.bfloat16(), torch.tensor([0, 1])),
    "linear by a vector": lambda x, y: F.linear(x * y, y[0]),
    "cat with an empty vector": lambda x, y: torch.cat([x, y[0, :0]]),
    "abs of complex": lambda x, y: torch.complex(x, y).abs(),
    "product of complex": lambda x, y: torch.view_as_real(torch.complex(x, y) * torch.complex(y, x * 2).exp()),
    "product by a complex number": lambda x, y: torch.view_as_real(torch.complex(x, y) * (x * 2) * (1 + 2j)),
    "several dtypes": lambda x, y: ((x @ y.double().float().t()) * y[:, :2].double()).float(),
    "softmax in another dtype": lambda x, y: (x @ y.t()).softmax(-1, dtype=torch.float64),
}


class OnPair:
    def forward(self, x: Tensor, y: Tensor) -> list[Tensor]: ...


class All(nn.Module):
    """Puts each operator between two that TorchScript differentiates: it leaves one that stands alone to torch."""

    def forward(self, x, y):
        return [do(x * 2, y * 2) * 3 for do in OPERATORS.values()]


VALUES = torch.tensor([[1.0, -1.0, 0.0, 3.0], [0.4, 2.0, -0.0, -3.0]])
PAIRS = [(VALUES, VALUES), (VALUES, VALUES.flip(1)), (VALUES, torch.zeros(2, 4)), (VALUES.flip(0), VALUES)]


@pytest.fixture(scope="module")
def exported():
    return tr.exported(All(), OnPair, {"forward": PAIRS[0]}, dynamic_shapes={"forward": {"x": {}, "y": {}}})


@pytest.mark.parametrize("scale", [1.0, math.inf])
def test_gradients_are_those_of_torch(exported, scale):
    wrong = set()
    for pair in PAIRS * 2:  # TorchScript differentiates from the third call on
        theirs, own = ([one.clone().requires_grad_() for one in pair] for _ in range(2))
        for name, *results in zip(OPERATORS, exported(*theirs), All()(*own), strict=True):
            grads = [gradients(result, one, scale) for result, one in zip(results, (theirs, own), strict=True)]
            if not torch.equal(results[0].nan_to_num(7), results[1].nan_to_num(7)) or not alike(*grads):
                wrong.add(name)
    assert not wrong


def gradients(result, inputs, scale):
    return torch.autograd.grad(
        result, inputs, torch.full_like(result, scale), retain_graph=True, materialize_grads=True
    )


def alike(ones, others):
    return all(torch.allclose(*pair, rtol=1e-4, equal_nan=True) for pair in zip(ones, others, strict=True))


class Remembers(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.register_buffer("state", torch.zeros(3))
        self.register_buffer("last", torch.zeros(3))

    def forward(self, x):
        self.state = torch.tanh(self.weight * x.mean(0) + self.state)
        self.last = self.state * 2
        return self.last + 1


class OnOne:
    def forward(self, x: Tensor) -> Tensor: ...


def test_a_buffer_that_is_assigned_keeps_its_gradient():
    module = Remembers()
    twin = copy.deepcopy(module)
    exported = tr.exported(module, OnOne, {"forward": (torch.ones(2, 3),)})
    for learns in (True, True, False):
        grads = []
        for run, own in ((exported, module), (twin, twin)):
            with torch.no_grad():
                run(torch.ones(2, 3))
            assert not any(buffer.requires_grad for buffer in run.buffers())
            with torch.set_grad_enabled(learns):
                total = sum(run(torch.full((2, 3), scale)).sum() for scale in (1.0, 0.5, 0.25))
            assert total.requires_grad == learns
            grads.append(torch.autograd.grad(total, own.weight) if learns else ())
        assert alike(*grads)
