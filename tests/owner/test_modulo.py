"""Integers that the processor cannot divide are errors of the call. TorchScript alone would end the owner's process."""

import io

import pytest
import torch
from torch import nn

import torchremote as tr
from torchremote.errors import RemoteError
from torchremote.jit import compile_interface
from torchremote.owner.scripting import scripted_module


class Modulo:
    def forward(self, a: int, b: int, way: int) -> int: ...


class Quotient:
    def forward(self, a: int, b: int) -> int: ...


class FloorDivision(nn.Module):
    def forward(self, a: int, b: int) -> int:
        return a // b


def function(a: int, b: int) -> int:
    return a % b


@torch.jit.script
def scripted(a: int, b: int) -> int:
    return a % b


class Divisor:
    def __init__(self, b: int):
        self.b = b

    def of(self, a: int) -> int:
        return a % self.b


class Part(nn.Module):
    def forward(self, a: int, b: int) -> int:
        return a % b if a > -100 else 7 % b


class Ways(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = Part()

    def forward(self, a: int, b: int, way: int) -> int:
        if way == 0:
            return a % b
        if way == 1:
            return self.part(a, b)
        if way == 2:
            return function(a, b)
        if way == 3:
            return scripted(a, b)
        if way == 4:
            return Divisor(b).of(a)
        if way == 5:
            return torch.jit.wait(torch.jit.fork(function, a, b))
        total = 0
        for i in range(3):
            total = a % (b if i > 0 else 4)
        return total


class Scripted(Ways):
    """Has a type of its own, which no other test has guarded."""


LEAST = -(2**63)
NUMBERS = [
    *((7, 3), (-7, 3), (7, -3), (-7, -3), (6, -3), (0, 5), (5, 1), (5, -1), (-5, -1), (0, -1), (5, 2**62)),
    *((2**63 - 1, 10), (2**63 - 1, -1), (LEAST, 7), (LEAST, 2**63 - 1)),
]


@pytest.mark.parametrize("way", range(7))
def test_an_integer_modulo_0_is_an_error_and_others_are_right(owner, way):
    stub = tr.create(owner, Modulo, Ways)
    for _ in range(3):
        for a, b in NUMBERS:
            assert stub(a, b, way) == Ways()(a, b, way)
        with pytest.raises(RemoteError, match="division by 0"):
            stub(7, 0, way)
    assert stub(7, 3, way) == Ways()(7, 3, way)  # the owner lives


def test_the_least_integer_divided_by_minus_1_does_not_end_the_owner(owner):
    quotient, modulo = tr.create(owner, Quotient, FloorDivision), tr.create(owner, Modulo, Ways)
    for _ in range(3):
        assert modulo(LEAST, -1, 0) == 0
        assert quotient(LEAST, -1) == LEAST  # 2**63 is none of TorchScript's integers
        assert [quotient(a, b) for a, b in NUMBERS] == [a // b for a, b in NUMBERS]
        with pytest.raises(RemoteError, match="division by 0"):
            quotient(1, 0)


def test_guards_are_added_once():
    texts = []
    for _ in range(3):
        scripted = scripted_module(Ways(), compile_interface(Modulo).interface)
        texts.append(str(scripted.graph))
    assert texts[0] == texts[1] == texts[2]
    assert texts[0].count("aten::floordiv") == 2
    assert "aten::remainder" not in texts[0]


def loaded(module):
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(module), file)
    return torch.jit.load(io.BytesIO(file.getvalue()))


def frozen(module):
    return torch.jit.freeze(torch.jit.script(module.eval()))


@pytest.mark.parametrize("make", [torch.jit.script, loaded, frozen])
def test_a_module_that_was_scripted_before_is_guarded(owner, make):
    stub = tr.create(owner, Modulo, make, args=(Scripted(),))
    for _ in range(3):
        assert [stub(a, b, 0) for a, b in NUMBERS] == [a % b for a, b in NUMBERS]
        with pytest.raises(RemoteError, match="division by 0"):
            stub(7, 0, 0)
