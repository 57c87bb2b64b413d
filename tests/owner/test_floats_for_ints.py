"""Powers of integers, and `round`, of which TorchScript makes floats, are refused where the value shows it."""

# ruff: noqa: RUF046  (what TorchScript needs)
import math
from typing import Any, Union

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import CreationError

from .places import names_its_line

IDS = torch.tensor([123456789012, 987654321098])


class OnTensor:
    def forward(self, x: Tensor) -> Tensor: ...


class GivesAny:
    def forward(self, x: Tensor) -> Any: ...


class Bits(nn.Module):
    def __init__(self):
        super().__init__()
        self.bits, self.rate, self.scale = 20, 2.5, 0.5


class Hash(Bits):
    def forward(self, x: Tensor) -> Tensor:
        return x % 2**self.bits


class Constant(Bits):
    def forward(self, x: Tensor) -> Tensor:
        return x + 10**9


class Named(Bits):
    def forward(self, x: Tensor) -> Tensor:
        mask = 2 ** len(x) - 1
        return x // mask


class InPlace(Bits):
    def forward(self, x: Tensor) -> Tensor:
        y = x.clone()
        y += pow(2, self.bits)
        return y


class Compared(Bits):
    def forward(self, x: Tensor) -> Tensor:
        return x - 123456789000 + 10 < 5 * 5**10


class Arange(Bits):
    def forward(self, x: Tensor) -> Tensor:
        return torch.arange(round(self.rate))


class Full(Bits):
    def forward(self, x: Tensor) -> Tensor:
        return torch.full((2,), 2**3)


class Clamped(Bits):
    def forward(self, x: Tensor) -> Tensor:
        for i in range(3):
            x = x.clamp(max=10 ** (i + 10))
        return x


class Result(Bits):
    def forward(self, x: Tensor) -> Any:
        return x.size(0) ** 2


class OneOfTwo(Bits):
    def forward(self, x: Tensor) -> Any:
        return self.either(x.size(0))

    def either(self, n: int) -> Union[int, float]:
        n **= 2
        return n


class Text(Bits):
    def forward(self, x: Tensor) -> Any:
        return f"{2**self.bits} ids"


class Formatted(Bits):
    def forward(self, x: Tensor) -> Any:
        return "{} of %s".format(round(self.rate)) % (2**3)


class Rounded(Bits):
    def forward(self, x: Tensor) -> Any:
        return int(2 ** (x.size(0) + 53) - 1)


class Digits(Bits):
    def forward(self, x: Tensor) -> Any:
        return int(3**35 + len(x))


REFUSED = {
    Hash: "(1 << self.bits)",
    Constant: "int(10 ** 9)",
    Named: "int(mask)",
    InPlace: "int(pow(2, self.bits))",
    Compared: "int(5 ** 10)",
    Arange: "int(round(self.rate))",
    Full: "(1 << 3)",
    Clamped: "int(10 ** (i + 10))",
    Result: "int(x.size(0) ** 2)",
    OneOfTwo: "int(n)",
    Text: "(1 << self.bits)",
    Formatted: "(1 << 3)",
    Rounded: "int(2 ** (x.size(0) + 53))",
    Digits: "int(3 ** 35)",
}


def outcome(module):
    try:
        return repr(module(IDS))
    except RuntimeError as error:
        return str(error)


@pytest.mark.parametrize(("make", "remedy"), REFUSED.items(), ids=lambda one: getattr(one, "__name__", ""))
def test_an_int_of_which_a_float_would_be_made_is_refused(make, remedy):
    if make is not Compared:
        assert outcome(torch.jit.script(make())) != outcome(make())  # the reason
    interface = GivesAny if make.forward.__annotations__["return"] is Any else OnTensor
    with pytest.raises(CreationError, match="a float in TorchScript") as found:
        tr.serve(make(), interface, "never")
    assert f"write `{remedy}`" in str(found.value)
    assert "**" in str(found.value) or names_its_line(str(found.value), __file__)


class Right(Bits):
    """Has floats, and powers whose value is the same in both."""

    def forward(self, x: Tensor) -> Tensor:
        n = x.dim()
        y = x.float() ** 2 + (x % 16) / 2**n + 2**-1 + 10**-n
        y = y * n**-0.5 + math.sqrt(n**2) + self.scale**2 + 2.0**n
        y = y + torch.sin(y) * 2**n + math.pi * y * 2**n + int(2**n) + int(round(self.rate))
        if 2**n > 3 and self.rate * 2**n > 1:
            y = y + 1
        x = (x % int(2**20)) + (1 << 4) + int(n**2 + 1) + int(2**62)
        below = x < 2**10
        return y + x + below + torch.full((2,), 2**3, dtype=torch.int64) + torch.full_like(x, 10**9) + math.floor(0.5)


def test_others_are_hosted_and_right(owner):
    stub = tr.create(owner, OnTensor, Right)
    for _ in range(3):
        assert torch.allclose(stub(IDS), Right()(IDS))
