"""Floats compare and divide on an owner as they do in Python, where TorchScript alone would differ without a word."""

import io
import math
from typing import List

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import RemoteError
from torchremote.jit import compile_interface
from torchremote.owner.scripting import scripted_module


class Tests:
    def forward(self, x: Tensor, other: float) -> List[bool]: ...


def are_equal(a: float, b: float) -> bool:
    return a == b


def differ(a: float, b: float) -> bool:
    return a != b


class IsNan(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = 0.0

    def forward(self, x: Tensor, other: float) -> List[bool]:
        loss = float(x.mean())
        same = loss
        found = [loss != loss, loss == loss, same != loss, float(x.mean()) != float(x.mean())]
        found += [are_equal(loss, loss), differ(loss, loss), are_equal(loss, other), differ(loss, other), loss == 0.0]
        self.last = loss
        found += [self.last != self.last, self.last == loss, [loss] == [loss]]
        for _ in range(2):
            if loss != loss:
                found += [loss == same]
        return found


MEANS = [(math.nan, 1.0), (1.0, 1.0), (0.0, -0.0), (math.inf, math.inf), (1.0, math.nan), (math.inf, 1.0)]


def loaded(module):
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(module), file)
    return torch.jit.load(io.BytesIO(file.getvalue()))


class Saved(IsNan):
    """Has a type of its own, which no other test has guarded."""


@pytest.mark.parametrize("make", [IsNan, lambda: torch.jit.script(Saved())])
def test_a_float_that_is_nan_does_not_equal_itself(owner, make):
    hosted = scripted_module(make(), compile_interface(Tests).interface)
    stub = tr.create(owner, Tests, hosted)
    for _ in range(3):
        for mean, other in MEANS:
            expected = IsNan()(torch.tensor(mean), other)
            assert stub(torch.tensor(mean), other) == hosted(torch.tensor(mean), other) == expected


class Constant(nn.Module):
    def forward(self, x: Tensor, other: float) -> List[bool]:
        return [other == 0.0, other != 1.0]


def test_a_comparison_with_a_constant_stays_as_it_is():
    text = str(scripted_module(Constant(), compile_interface(Tests).interface).graph)
    assert [name in text for name in ("aten::eq", "aten::ne", "aten::le")] == [True, True, False]


# -- quotients and remainders


class Of:
    def forward(self, a: float, b: float, k: int) -> List[float]: ...


class Divides(nn.Module):
    def forward(self, a: float, b: float, k: int) -> List[float]:
        quotient, rest = divmod(a, b)
        found = [a // b, a % b, quotient, rest]
        if k != 0:
            quotient, rest = divmod(a, k)
            found += [a // k, a % k, quotient, rest, a // 0.1, a % 3, k // b, k % b]
        return found


class SavedDivides(Divides):
    """Has a type of its own, which no other test has guarded."""


FLOATS = [0.1, 1.0, 3.0, 7.5, 1 / 3, 1e300, 1e-300, 5e-324, math.inf, 0.0, 2.0**53, 123456789.123]
FLOATS = [sign * number for number in FLOATS for sign in (1, -1)] + [math.nan]


@pytest.mark.parametrize("make", [Divides, lambda: loaded(SavedDivides())])
def test_quotients_and_remainders_of_floats_are_pythons(make):
    hosted, local = scripted_module(make(), compile_interface(Of).interface), Divides()
    for k in (0, 7, -(2**53) - 1):
        for a in FLOATS:
            for b in FLOATS:
                if b != 0:
                    assert list(map(repr, hosted(a, b, k))) == list(map(repr, local(a, b, k))), (a, b, k)


def test_an_owner_divides_floats_as_python_does(owner):
    stub = tr.create(owner, Of, Divides)
    for _ in range(3):
        assert stub(1.0, 0.1, 3) == Divides()(1.0, 0.1, 3)
        with pytest.raises(RemoteError, match="division by 0"):
            stub(1.0, 0.0, 3)


def test_guards_of_floats_are_added_once():
    texts = []
    for _ in range(3):
        scripted = scripted_module(Divides(), compile_interface(Of).interface)
        texts.append(str(scripted.graph))
    assert texts[0] == texts[1] == texts[2]
    assert "aten::remainder" not in texts[0]
