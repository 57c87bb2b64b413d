"""Arithmetic on sizes and integers is Python's in an exported graph, and a division by 0 is an error there."""

import types
from typing import List, NamedTuple, Tuple

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote.jit.export.conditions import condition
from torchremote.jit.lower import ir
from torchremote.jit.runtime import definitions, exported
from torchremote.jit.script.emit import _expression

from .zoo import OnTensor

LEAST = -(2**63)
INTEGERS = [0, 1, -1, 2, -3, 7, 62, 64, 2**40, 2**63 - 1, LEAST]
FLOATS = [0.0, -0.0, 0.1, 1.0, -1.0, 2.5, -7.3, 1e-20, -1e-20, 1e300, 10.0]


COMPILED = types.SimpleNamespace(
    **{one.name: torch.jit.script(getattr(exported, one.name)) for one in definitions("exported")}
)


class WithNumber:
    def forward(self, x: Tensor, n: int) -> Tensor: ...


class OnTwoResults:
    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]: ...


class Computing(nn.Module):
    def __init__(self, compute):
        super().__init__()
        self.compute = compute

    def forward(self, x, n):
        return x * self.compute(x.shape[0], n)


class OfTensor(Computing):
    def forward(self, x):
        return self.compute(x)


def result(function, *args):
    """Returns what a function gives, or that it found a divisor of 0."""
    try:
        return function(*args)
    except (ZeroDivisionError, torch.jit.Error) as error:
        return "by zero" if "by zero" in str(error) or "modulo" in str(error) else str(error)


@pytest.mark.parametrize(
    ("name", "python"),
    [("floor_quotient", lambda a, b: a // b), ("modulo", lambda a, b: a % b)],
)
def test_integers_are_divided_as_in_python(name, python):
    for a in INTEGERS:
        for b in INTEGERS:
            expected = result(python, a, b)
            if expected != 2**63:  # which no integer of TorchScript is
                assert result(getattr(COMPILED, name), a, b) == expected, (a, b)


@pytest.mark.parametrize(
    ("name", "python"),
    [
        ("float_floor_quotient", lambda a, b: a // b),
        ("float_modulo", lambda a, b: a % b),
        ("true_quotient", lambda a, b: a / b),
    ],
)
def test_floats_are_divided_as_in_python(name, python):
    for a in FLOATS:
        for b in FLOATS:
            found, expected = result(getattr(COMPILED, name), a, b), result(python, a, b)
            assert str(found) == str(expected), (a, b)  # with the sign of 0


def test_powers_and_shifts_are_pythons_or_an_error():
    for a in (0, 1, -1, 2, -3, 7, 2**40):
        for n in (0, 1, 2, 5, 62, 63, 200):
            for name, expected in (("power", a**n), ("shifted_left", a << n), ("shifted_right", a >> n)):
                if -(2**62) < expected < 2**62:
                    assert getattr(COMPILED, name)(a, n) == expected, (name, a, n)
                elif not -(2**63) <= expected < 2**63:
                    with pytest.raises(torch.jit.Error, match="more than 63 bits"):
                        getattr(COMPILED, name)(a, n)
    for name in ("shifted_left", "shifted_right"):
        with pytest.raises(torch.jit.Error, match="negative shift count"):
            getattr(COMPILED, name)(3, -1)


def test_numbers_of_a_graph_are_pythons():
    def compute(size, n):
        return (size % n) + (size // n) + (size & 3) + (n | 1) + 2**size + (size << 2) + round(size * 0.5)

    exported = tr.exported(Computing(compute), WithNumber, {"forward": (torch.ones(4, 1), 6)})
    for size in (2, 3, 7):
        for n in (2, 3, 5, 9):
            x = torch.ones(size, 1)
            assert torch.equal(exported(x, n), Computing(compute)(x, n)), (size, n)
    with pytest.raises(torch.jit.Error, match="by zero"):
        exported(torch.ones(2, 1), 0)


def test_a_call_whose_divisor_is_0_is_refused():
    class ViewedAs(nn.Module):
        def forward(self, x, n):
            return x.view(n, -1)

    exported = tr.exported(ViewedAs(), WithNumber, {"forward": (torch.ones(6, 2), 3)})
    assert exported(torch.ones(6, 2), 4).shape == (4, 3)
    with pytest.raises(torch.jit.Error, match="n: exported for"):
        exported(torch.ones(6, 2), 0)


def test_conditions_keep_their_divisors():
    divisors = []
    written = _expression(
        condition("Mod(a, b) == FloorDiv(a, b) % 3", {"a": ir.Name("a"), "b": ir.Name("b")}.get, "where", divisors)
    )
    assert divisors == [ir.Name("b"), ir.Name("b")]
    assert written == "modulo(a, b) == (floor_quotient(a, b) % 3)"


def test_a_condition_may_be_a_size():
    written = _expression(condition("2 * (1 if a > 0 else 0)", {"a": ir.Name("a")}.get, "where"))
    assert written == "2 * int(a > 0)"


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: x.std() + x.var(),
        lambda x: torch.var_mean(x)[0],
        lambda x: torch.std(x, 0) + x.std(1, correction=0).sum(),
        lambda x: torch.nn.functional.interpolate(x[None, None], size=(9, 2 * x.shape[1]), mode="bilinear"),
        lambda x: torch.nn.functional.interpolate(x[None, None], size=x.shape[0]),
        lambda x: 3 // (x * 10).int(),
        lambda x: 7.5 // (x + 1),
        lambda x: torch.concat([x, x.clip(max=x * 0.7)]) + torch.cat([x.clip(1.2), x]).clamp(0, 1.5),
        lambda x: torch.multiply(x, 2) + torch.multiply(x, x) * x.absolute() - x.abs(),
    ],
)
def test_operators_with_overloads_that_look_alike(compute):
    exported = tr.exported(OfTensor(compute), OnTensor, {"forward": (torch.rand(4, 6) + 1,)})
    x = torch.rand(5, 7) + 1
    assert torch.equal(exported(x), compute(x))
    assert exported(x).dtype == compute(x).dtype


class Floats(NamedTuple):
    numbers: List[float]
    negative: complex
    positive: complex


class GivesFloats:
    def forward(self, x: Tensor, start: float) -> Floats: ...


def test_both_zeros_keep_their_signs():
    def compute(x):
        signs = [torch.copysign(x, zero) for zero in (0.0, -0.0, 0.0, -0.0)]
        products = [x * number for number in (complex(0.0, -0.0), complex(-1.0, -0.0), complex(-1.0, 0.0))]
        filled = [torch.full_like(x, -0.0), torch.full_like(x, 0.0)]
        return torch.stack([1 / one for one in (*signs, *filled)]), torch.stack([one.angle() for one in products])

    exported = tr.exported(OfTensor(compute), OnTwoResults, {"forward": (torch.ones(3),)})
    for x in (torch.ones(2), -torch.ones(4)):
        for one, other in zip(exported(x), compute(x), strict=True):
            assert torch.equal(one, other)


def test_both_zeros_are_returned_with_their_signs():
    class Constants(nn.Module):
        def forward(self, x, start):
            return Floats([0.0, -0.0, start], complex(1.0, -0.0), complex(1.0, 0.0))

    exported = tr.exported(Constants(), GivesFloats, {"forward": (torch.ones(2), 0.0)})
    assert str(exported(torch.ones(2), 0.0)) == str(Constants()(torch.ones(2), 0.0))
