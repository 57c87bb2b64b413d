"""Integers that the processor cannot divide are errors of the call. TorchScript alone would end the owner's process."""

import io
import math

import pytest
import torch
from torch import Tensor, nn

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
    for way in range(7):
        for _ in range(3):
            assert [stub(a, b, way) for a, b in NUMBERS] == [Ways()(a, b, way) for a, b in NUMBERS]
            with pytest.raises(RemoteError, match="division by 0"):
                stub(7, 0, way)


# -- divisions of tensors and floats beside those of integers


class OnTensor:
    def forward(self, x: Tensor) -> Tensor: ...


class Replay(nn.Module):
    """Divides tensors, and integers."""

    def __init__(self):
        super().__init__()
        self.register_buffer("rows", torch.zeros(4))
        self.pointer, self.capacity = 0, 4

    def forward(self, x: Tensor) -> Tensor:
        k = x.shape[0]
        self.rows[(torch.arange(k) + self.pointer) % self.capacity] = x.float()
        self.pointer = (self.pointer + k) % self.capacity
        return self.rows.clone() + torch.arange(4) // self.capacity + self.pointer // 2


class Timer(nn.Module):
    """Divides floats, and integers."""

    def __init__(self):
        super().__init__()
        self.time, self.step = 0.5, -7

    def forward(self, x: Tensor) -> Tensor:
        self.time = (self.time + 1.25) % 2
        self.step += 3
        due, rest = self.step // 2, (self.step * 3.3) // self.time
        return x + self.time + due + rest + self.step % 4 + self.step % 1.5 + 5 % self.time + 7.5 // 2


def divided(x: Tensor, k: int) -> Tensor:
    return x % k + k % 3 + x // k + k // 3 + (k + 0.5) % k


class Nested(nn.Module):
    """Divides in blocks, in a function, a method and a fork."""

    def __init__(self):
        super().__init__()
        self.count = 3

    def forward(self, x: Tensor) -> Tensor:
        for i in range(1, 5):
            if (self.count + i) % 2 == 0:
                x = x % (i + 1)
                while x.sum() > 9:
                    x = x // 2
                    if i // 3 == 1:
                        x = x + 4.5 % i + i % 3
            else:
                x = self.more(x, i)
        return divided(x, self.count) + torch.jit.wait(torch.jit.fork(divided, x, 2))

    def more(self, x: Tensor, i: int) -> Tensor:
        return x % i + i % 5 + (i * 1.5) // 2


@pytest.mark.parametrize("make", [Replay, Timer, Nested])
def test_divisions_of_tensors_and_floats_beside_those_of_integers(owner, make):
    for _ in range(2):  # the second has the type of the first
        stub, local = tr.create(owner, OnTensor, make), make()
        for x in (torch.tensor([1.0, 2.5]), torch.tensor([7.0, -2.5, 3.0]), torch.tensor([4])):
            torch.testing.assert_close(stub(x), local(x))


# -- other operators that divide integers


class Of:
    def forward(self, way: int, a: int, b: int) -> int: ...


class Others(nn.Module):
    def forward(self, way: int, a: int, b: int) -> int:
        if way == 0:
            quotient, rest = divmod(a, b)
            return quotient if quotient > 0 else rest
        if way == 1:
            return math.gcd(a, b)
        if way == 2:
            return int(torch.tensor(a).item() % torch.tensor(b).item())
        if way == 3:
            return int(torch.tensor(a).item() // b)
        if way == 4:
            return a % (b + 2 * way - 8)  # as a guard would write it
        return a % (b != 0)


@pytest.mark.parametrize("way", range(6))
def test_other_operators_do_not_end_the_owner(owner, way):
    stub, local = tr.create(owner, Of, Others), Others()
    for _ in range(3):
        for a, b in NUMBERS[:-2] if way in (2, 3) else NUMBERS:
            assert stub(way, a, b) == local(way, a, b)
        assert stub(way, LEAST, -1) == {1: 1, 3: LEAST}.get(way, 0)
        if way == 1:
            assert [stub(way, a, b) for a, b in [(7, 0), (-1, LEAST), (6, -4)]] == [7, 1, 2]
        else:
            with pytest.raises(RemoteError, match=r"(?i)division by 0|modulo by zero"):
                stub(way, 7, 0)


class OfFloats:
    def forward(self, x: Tensor, y: Tensor) -> float: ...


class Items(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> float:
        return float(x.item() % y.item())


def test_floats_of_tensors_are_divided_as_before(owner):
    stub = tr.create(owner, OfFloats, Items)
    for _ in range(3):
        for x, y in [(7.5, 2.0), (-7.5, 2.0), (7.5, -1.0), (7.0, 2), (-7, 2.5), (3, -1), (7, 0.5)]:
            assert stub(torch.tensor(x), torch.tensor(y)) == x % y
        assert math.isnan(stub(torch.tensor(7.5), torch.tensor(0.0)))
        with pytest.raises(RemoteError, match="division by 0"):
            stub(torch.tensor(7), torch.tensor(0))
