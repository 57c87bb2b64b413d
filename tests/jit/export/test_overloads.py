"""TorchScript calls the overload that the graph has, also where a None or a list of integers has no type."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import torchremote as tr

from .test_numbers import OfTensor
from .zoo import Holding, OnTensor, saved_and_loaded

AS_1D = ["linear", "nearest", "nearest-exact", "area"]
WITH_NONES = {
    **{f"{mode} to a size": lambda x, mode=mode: F.interpolate(x, 9, mode=mode) for mode in AS_1D},
    "a factor that becomes a size": lambda x: F.interpolate(
        x, scale_factor=1.5, mode="linear", recompute_scale_factor=True
    ),
    "a factor": lambda x: F.interpolate(x, scale_factor=1.5, mode="linear"),
    "aligned corners": lambda x: F.interpolate(x, 9, mode="linear", align_corners=True),
    "a size and a factor": lambda x: F.interpolate(F.interpolate(x, 9), scale_factor=2.0),
    "two dimensions": lambda x: F.interpolate(x[None], (9, 7), mode="bilinear"),
    "nn.Upsample": nn.Upsample(9, mode="linear"),
    "pinv": torch.linalg.pinv,
    "pinv with a tolerance": lambda x: torch.linalg.pinv(x, rtol=1e-3) + torch.linalg.pinv(x),
    "matrix_rank": lambda x: torch.linalg.matrix_rank(x)[:, None, None] * x,
    "in a branch": lambda x: torch.cond(
        x.sum() > 0, lambda x: torch.linalg.pinv(x).mT + x, lambda x: x.mT.contiguous().mT * 2, (x,)
    ),
}


@pytest.mark.parametrize("name", WITH_NONES)
def test_an_overload_that_differs_in_the_type_of_a_none(name):
    torch.manual_seed(0)
    module = OfTensor(WITH_NONES[name])
    exported = tr.exported(module, OnTensor, {"forward": (torch.rand(2, 3, 5),)})
    for one in (exported, saved_and_loaded(exported), copy.deepcopy(exported), torch.jit.script(Holding(exported))):
        for sizes in ((2, 3, 5), (4, 3, 6), (3, 2, 7)):
            ours = torch.rand(sizes).requires_grad_()
            own = ours.detach().clone().requires_grad_()
            given, wanted = one(ours), module(own)
            assert torch.equal(given, wanted)
            given.sum().backward()
            wanted.sum().backward()
            assert torch.equal(ours.grad, own.grad)
    assert not [key for key in exported.state_dict() if "torchremote" in key]


@pytest.mark.parametrize(
    ("do", "x"),
    [
        (lambda x: torch.gradient(x, spacing=[2, 3], dim=[0, 1])[1], torch.randn(4, 5)),
        (lambda x: torch._foreach_add([x, x], [1, 2])[1], torch.arange(4)),
    ],
)
def test_integers_among_numbers(do, x):
    exported = tr.exported(OfTensor(do), OnTensor, {"forward": (x,)})
    result = saved_and_loaded(exported)(x)
    assert result.dtype == do(x).dtype
    assert torch.equal(result, do(x))
