"""What users give as examples, and what a method returns for one: what is refused names the place."""

from typing import Dict

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import ArgumentError, MismatchError

from .zoo import OnTensor

LONG = 10**5000  # Python refuses to write it


class Unwritable:
    def __repr__(self):
        raise LookupError


class OnInt:
    def forward(self, x: int) -> Tensor: ...


class OnFloat:
    def forward(self, x: float) -> Tensor: ...


class ByInt:
    def forward(self, x: Dict[int, Tensor]) -> Tensor: ...


class ToInt:
    def forward(self, x: Tensor) -> int: ...


class Ones(nn.Module):
    def forward(self, x):
        return torch.ones(2)


class Returning(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = [value]

    def forward(self, x):
        return self.value[0]


@pytest.mark.parametrize(
    ("interface", "example", "said"),
    [
        (OnTensor, (LONG,), "x: an object of class int is no Tensor"),
        (OnTensor, (Unwritable(),), "x: an object of class .*Unwritable is no Tensor"),
        (OnTensor, {LONG: 1}, "an example has an object of class int, which is no argument"),
        (OnInt, (LONG,), "x: an object of class int is no int of 64 bits"),
        (OnInt, (2**63,), "x: 9223372036854775808 is no int of 64 bits"),
        (OnInt, (True,), "x: True is no int$"),
        (OnFloat, (LONG,), "x: an object of class int is no float"),
        (ByInt, ({LONG: torch.ones(2)},), "x: the key an object of class int is no int of 64 bits"),
        (ByInt, ({2**63: torch.ones(2)},), "x: the key 9223372036854775808 is no int of 64 bits"),
        (ByInt, ({Unwritable(): torch.ones(2)},), "x: the key an object of class .*Unwritable is no int"),
    ],
)
def test_values_that_do_not_fit(interface, example, said):
    with pytest.raises(ArgumentError, match=rf"\.forward.*{said}"):
        tr.exported(Ones(), interface, {"forward": example})


def test_names_that_are_none():
    with pytest.raises(ArgumentError, match="OnTensor has no method an object of class int; it has forward"):
        tr.exported(Ones(), OnTensor, {LONG: (torch.ones(2),)})
    examples = {"forward": (torch.ones(2),)}
    for given, said in (({LONG: 1}, "names an object of class int, which is no argument"),):
        with pytest.raises(ArgumentError, match=f"OnTensor.forward: dynamic_shapes {said}"):
            tr.exported(Ones(), OnTensor, examples, dynamic_shapes={"forward": given})
    with pytest.raises(ArgumentError, match="ByInt.forward.x: dynamic_shapes is an object of class dict, and the exam"):
        tr.exported(
            Ones(), ByInt, {"forward": ({1: torch.ones(2)},)}, dynamic_shapes={"forward": ({1: LONG, 2: None},)}
        )


@pytest.mark.parametrize(
    ("interface", "value", "said"),
    [
        (OnTensor, LONG, "an object of class int is no Tensor"),
        (OnTensor, Unwritable(), "an object of class .*Unwritable is no Tensor"),
        (ToInt, LONG, "an object of class int is no int of 64 bits"),
        (ToInt, -(2**63) - 1, "-9223372036854775809 is no int of 64 bits"),
    ],
    ids=["long", "unwritable", "long int", "int of 65 bits"],
)
def test_results_that_do_not_fit(interface, value, said):
    with pytest.raises(MismatchError, match=f"forward.return: {said}"):
        tr.exported(Returning(value), interface, {"forward": (torch.ones(2),)})
