"""Operators for which TorchScript has a formula of its own have torch's gradients, for all dtypes and special values.

The formulas are in torch/csrc/jit/runtime/symbolic_script.cpp. Those that differ by more than roundings are named in
`derivatives`. TorchScript uses them from the second or third call on.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torchremote as tr

NAMES = (
    "tanh sigmoid relu erf erfc exp neg abs acos asin atan ceil cos cosh expm1 floor frac log log10 log1p log2 "
    "reciprocal round rsqrt sin sinh sqrt tan trunc square softmax log_softmax logsumexp mean std var"
)
OVER_A_DIMENSION = ("softmax", "log_softmax", "logsumexp")
OPERATORS = {
    **{name: getattr(torch, name) for name in NAMES.split() if name not in OVER_A_DIMENSION},
    **{name: (lambda x, do=getattr(torch, name): do(x, 0)) for name in OVER_A_DIMENSION},
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "leaky_relu by 0": lambda x: F.leaky_relu(x, 0.0),
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "hardtanh": F.hardtanh,
    "hardshrink": F.hardshrink,
    "softplus": F.softplus,
    "threshold": lambda x: F.threshold(x, 1.0, 2.0),
    "fmod": lambda x: torch.fmod(x, 1.5),
    "remainder": lambda x: torch.remainder(x, 1.5),
    "pow": lambda x: x**3,
    "pow of a number": lambda x: 2.0**x,
    "power": lambda x: (x.abs() + 1) ** x,
    "clamp": lambda x: x.clamp(-1.0, 2.5),
    "clamp by tensors": lambda x: x.clamp(x * 0.5, x * 2),
    "max": lambda x: torch.max(x, x * x),
    "min": lambda x: torch.min(x, -x),
    "where": lambda x: torch.where(x > 1, x, x * 2),
    "add": lambda x: torch.add(x, x * 2, alpha=3),
    "sub": lambda x: torch.sub(x, 2, alpha=3) - x * 3,
    "rsub": lambda x: torch.rsub(x, x * 2, alpha=3),
    "mul": lambda x: x * (x + 1) * 3e4,
    "div": lambda x: x / (x + 1) / 3,
    "div with a mode": lambda x: torch.div(x, x + 1, rounding_mode="floor") + x,
    "lerp": lambda x: torch.lerp(x, x * 2, 0.3) + torch.lerp(x, x * 2, x * 3),
    "addcmul": lambda x: torch.addcmul(x, x, x * 2),
    "addcmul by a number": lambda x: torch.addcmul(x, x, x * 0, value=300.0),
    "mean over no dimensions": lambda x: x.mean(()),
    "mean over no dimensions that are kept": lambda x: x.mean(tuple(range(2, x.dim())), True),
    "mean over one": lambda x: x.mean(0, True),
    "type_as": lambda x: x.type_as(torch.ones(1)).type_as(x),
    "to": lambda x: x.double().to(x.dtype),
    "dot": lambda x: x.dot(x * 2),
    "layer_norm": lambda x: F.layer_norm(x, x.shape),
    "index": lambda x: x[torch.tensor([0, 0, 1])] + x[x > 0].sum(),
    "embedding": lambda x: F.embedding(torch.tensor([1, 1]), x[:, None], padding_idx=0),
    "cat, stack, split and unbind": lambda x: torch.cat(torch.stack([x, x * 2]).unbind(0)).split(3)[1],
    "expand, permute and squeeze": lambda x: x[None].expand(3, -1).permute(1, -2).t().reshape(-1, 1).squeeze(-1),
    "pools": lambda x: F.adaptive_avg_pool1d(x[None], 1) + F.max_pool2d(x[None, None], 1).sum(),
}
SPECIAL = [0.0, -0.0, math.inf, -math.inf, math.nan, 1e30, -1e30, 1e-30, 6e4, 300.0, -300.0, 1e-4, -1e-4, 1e-6]
USUAL = [1.0, -1.0, 0.5, 4.0, -4.0, 3.0, -3.0, 8.0, -8.0, 2.5, -2.5, 1.5, -1.5, 0.1]
TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-10, torch.float16: 2e-2, torch.bfloat16: 6e-2}


class OnTensor:
    def forward(self, x: Tensor) -> list[Tensor]: ...


class All(nn.Module):
    """Puts each operator between two that TorchScript differentiates: it leaves one that stands alone to torch."""

    def forward(self, x):
        return [do(x * 1.5) * 1.5 for do in OPERATORS.values()]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_formulas_are_those_of_torch(dtype):
    special, usual, small = (torch.tensor(values, dtype=dtype) / 1.5 for values in (SPECIAL, USUAL, [1e-4] * 14))
    exported = tr.exported(All(), OnTensor, {"forward": (usual,)}, dynamic_shapes={"forward": {"x": {}}})
    wrong = set()
    for _ in range(3):
        differences(exported, usual, 1.0)
    for values in (special, usual, small):
        for scale in (1.0, 300.0, math.inf):
            wrong |= {(name, scale) for name in differences(exported, values, scale)}
    assert not wrong


def differences(exported, values, scale):
    """Yields the names of the operators whose gradients are not the module's."""
    theirs, own = values.clone().requires_grad_(), values.clone().requires_grad_()
    tolerance = TOLERANCES[values.dtype]
    least = torch.finfo(values.dtype).tiny * 4 * max(1.0, min(scale, 1e3))
    found = set()
    for name, *results in zip(OPERATORS, exported(theirs), All()(own), strict=True):
        one, other = (gradient(*pair, scale) for pair in zip(results, (theirs, own), strict=True))
        if not torch.allclose(one.double(), other.double(), rtol=tolerance, atol=least, equal_nan=True):
            found.add(name)
    return found


def gradient(result, value, scale):
    return torch.autograd.grad(
        result, value, torch.full_like(result, scale), retain_graph=True, materialize_grads=True, allow_unused=True
    )[0]


class OnPair:
    def forward(self, x: Tensor, y: Tensor) -> Tensor: ...


class OfPair(nn.Module):
    def __init__(self, compute):
        super().__init__()
        self.compute = compute

    def forward(self, x, y):
        return self.compute(x * 2, y * 2) * 3


@pytest.mark.parametrize(
    ("compute", "shapes"),
    [
        (F.linear, [((2, 0), (3, 0)), ((2, 3), (0, 3)), ((0, 3), (2, 3)), ((2, 2, 0), (1, 0)), ((0,), (2, 0))]),
        (torch.matmul, [((2, 3, 0), (0, 2)), ((2, 3, 1), (1, 0)), ((2, 0, 3), (3, 2)), ((0, 1, 3), (3, 2))]),
        (torch.matmul, [((2, 0), (3, 0, 2)), ((0, 2), (3, 2, 2)), ((2, 2), (3, 2, 0))]),
        (torch.matmul, [((1, 2, 3, 0), (0,)), ((1, 2, 0, 3), (3,)), ((3,), (1, 3, 0)), ((0, 2), (2, 0))]),
        (torch.matmul, [((2, 3, 4), (4, 5)), ((4, 5), (2, 5, 3)), ((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (4,))]),
        (lambda x, y: F.batch_norm(x, None, None, training=True) + y, [((0, 3, 2), (0, 3, 2)), ((2, 3), (2, 3))]),
        (lambda x, y: F.batch_norm(x, torch.zeros(3).to(x), torch.ones(3).to(x)) + y, [((0, 3, 2), (0, 3, 2))]),
        (
            lambda x, y: F.batch_norm(x, torch.zeros(3).to(x), torch.ones(3).to(x), y),
            [((0, 3, 2), (3,)), ((2, 3), (3,))],
        ),
        (lambda x, y: torch.addmm(x, y, y, beta=2.0, alpha=3.0), [((2, 2), (2, 2)), ((1, 2), (2, 2))]),
        (lambda x, y: torch.lerp(x, y, y), [((2, 3), (3,)), ((), (2, 3)), ((0, 3), (1,)), ((2, 1), (1, 3))]),
        (lambda x, y: torch.addcmul(x, y, y), [((2, 3), (3,)), ((2, 1), (1, 3)), ((2, 3), ())]),
        (lambda x, y: x.squeeze(0).logsumexp(-1, True) + y.squeeze(), [((1, 3), (1,)), ((2, 3), (1, 1))]),
    ],
)
def test_formulas_do_for_all_shapes(compute, shapes):
    for sizes in shapes:
        pair = [torch.randn(size, dtype=torch.float64) for size in sizes]
        fixed = {"forward": {"x": {}, "y": {}}}
        exported = tr.exported(OfPair(compute), OnPair, {"forward": tuple(pair)}, dynamic_shapes=fixed)
        for _ in range(4):
            grads = []
            for run in (exported, OfPair(compute)):
                given = [one.clone().requires_grad_() for one in pair]
                grads.append(torch.autograd.grad(run(*given).cos().sum(), given, materialize_grads=True))
            for one, other in zip(*grads, strict=True):
                assert torch.allclose(one, other, rtol=1e-4, atol=1e-5), sizes


def test_a_size_of_0_may_come_later():
    pair = (torch.ones(2, 3, 4), torch.ones(4, 5))
    exported = tr.exported(OfPair(torch.matmul), OnPair, {"forward": pair})
    for _ in range(4):
        given = [torch.ones(size, requires_grad=True) for size in ((2, 3, 0), (0, 5))]
        assert [one.shape for one in torch.autograd.grad(exported(*given).sum(), given)] == [(2, 3, 0), (0, 5)]
