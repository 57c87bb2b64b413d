"""Powers of integers, and `round`, of which TorchScript makes floats, are refused where the value shows it."""

# ruff: noqa: RUF046  (what TorchScript needs)
import math
import re
from typing import Any, Union

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import CreationError
from torchremote.jit import compile_interface
from torchremote.owner.scripting import scripted_module

from .places import following, names_its_line, refusals

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


class Mask(Bits):
    def forward(self, x: Tensor) -> Tensor:
        return x.long() * (2**4 - 1)


class Several(Bits):
    def forward(self, x: Tensor) -> Tensor:
        return x % (2**self.bits + 3 * 5**2 - round(self.rate))


class OneOfTwoTensors(Bits):
    def forward(self, x: Tensor) -> Tensor:
        y = x.float()
        if x.dim() == 1:
            y = x
        return y + 10**9


class InALoop(Bits):
    def forward(self, x: Tensor) -> Tensor:
        a, b, c = torch.zeros(2), torch.zeros(2), x
        for _ in range(3):
            a = b + 10**9
            b = c
        return a


class OfAPart(Bits):
    def forward(self, x: Tensor) -> Tensor:
        return self.kept(x) + 10**9

    def kept(self, x: Tensor) -> Tensor:
        return x.clone()


REFUSED = {
    Mask: "(1 << 4)` for `2 ** 4",
    Several: "(1 << self.bits)` for `2 ** self.bits`, and `int(5 ** 2)` for `5 ** 2`, and `int(round(self.rate))",
    OneOfTwoTensors: "int(10 ** 9)",
    InALoop: "int(10 ** 9)",
    OfAPart: "int(10 ** 9)` for `10 ** 9`, or `10.0 ** 9",
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
    Rounded: "(1 << (x.size(0) + 53))",
    Digits: "50031545098999707",
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


def declared_for(make):
    return GivesAny if make.forward.__annotations__["return"] is Any else OnTensor


def interface_of(make):
    return compile_interface(declared_for(make)).interface


def refusal_of(make):
    return refusals(declared_for(make))(make)


def remedies(refusal):
    return re.findall("`([^`]+)` for `([^`]+)`", refusal.rpartition("; write ")[2])


@pytest.mark.parametrize("make", REFUSED, ids=lambda one: one.__name__)
def test_what_is_written_as_the_refusal_says_is_hosted_and_right(make, tmp_path):
    mended = scripted_module(following(make, refusal_of, remedies, tmp_path)(), interface_of(make))
    for _ in range(3):
        assert outcome(mended) == outcome(make())


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


class Encoding(Bits):
    """Has tensors of floats that the source shows to be some."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([nn.Linear(2, 2), nn.Tanh()])
        self.weight = nn.Parameter(torch.ones(2))
        self.few = 4

    def forward(self, x: Tensor) -> Tensor:
        x = x % 1000 * self.weight
        for layer in self.layers:
            x = layer(x)
        parts = [x]
        for i in range(self.few):
            parts.append(torch.sin(x * 2**i))
        y = torch.stack([x, torch.stack(parts).sum(0)]).sum(0)
        y = torch.clamp(torch.round(y * (2**self.few - 1)), 0, 2**self.few - 1)
        return self.scaled(y) * 10**3 + self.few**2 + torch.zeros(2).add(2**self.few)

    def scaled(self, x: Tensor) -> Tensor:
        y = torch.relu(x).float()
        if y.dim() == 1:
            y = y * self.few**2
        return y


@pytest.mark.parametrize("make", [Right, Encoding])
def test_others_are_hosted_and_right(owner, make):
    stub = tr.create(owner, OnTensor, make)
    for _ in range(3):
        found, expected = stub(IDS), make()(IDS)
        assert found.dtype is expected.dtype
        assert torch.allclose(found, expected)


class Sizes(Bits):
    def forward(self, x: Tensor) -> Tensor:
        h = x.shape[-1] // 2**0
        return nn.functional.interpolate(x[None, None, None].float(), size=(h, h))


class NewZeros(Bits):
    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(8 // 2**2)


class Pool(Bits):
    def forward(self, x: Tensor) -> Tensor:
        s = 2**0
        return nn.functional.avg_pool2d(x[None, None, None].float(), s)


class Range(Bits):
    def forward(self, x: Tensor) -> Tensor:
        for i in range(2**2):
            x = x + i
        return x


class OfAMethod(Bits):
    def forward(self, x: Tensor) -> Tensor:
        return self.cut(x, 2**0)

    def cut(self, x: Tensor, n: int) -> Tensor:
        return x[:n]


class Slice(Bits):
    def forward(self, x: Tensor) -> Tensor:
        return x[: 2**0]


class Index(Bits):
    def forward(self, x: Tensor) -> Tensor:
        return x[2**0]


class Halved(Bits):
    def forward(self, x: Tensor) -> Tensor:
        n = 8
        for i in range(2):
            n = n // 2**i
        return x * n


TYPED = {
    Sizes: "`h` is an int in Python and a float in TorchScript; write `int(h)` for `h`",
    NewZeros: "`8 // 2 ** 2` is an int in Python and a float in TorchScript; write `(1 << 2)` for `2 ** 2`",
    Pool: "`s` is an int in Python and a float in TorchScript; write `int(s)` for `s`",
    Range: "`2 ** 2` is an int in Python and a float in TorchScript; write `(1 << 2)` for `2 ** 2`",
    OfAMethod: "`2 ** 0` is an int in Python and a float in TorchScript; write `(1 << 0)` for `2 ** 0`",
    Slice: "`2 ** 0` is an int in Python and a float in TorchScript; write `(1 << 0)` for `2 ** 0`",
    Index: "`2 ** 0` is an int in Python and a float in TorchScript; write `(1 << 0)` for `2 ** 0`",
    Halved: "`n // 2 ** i` is an int in Python and a float in TorchScript; write `(1 << i)` for `2 ** i`",
}


@pytest.mark.parametrize(("make", "reason"), TYPED.items(), ids=lambda one: getattr(one, "__name__", ""))
def test_what_torchscript_refuses_comes_with_the_reason_and_a_remedy_that_works(make, reason, tmp_path):
    refusal = refusal_of(make)
    assert "cannot be scripted" in refusal
    assert f"\nalso, {make.__name__}.forward (" in refusal
    assert refusal.endswith(reason)

    def also(make):
        said = refusal_of(make)
        return said and said.rpartition("\nalso, ")[2]

    mended = scripted_module(following(make, also, remedies, tmp_path)(), interface_of(make))
    assert outcome(mended) == outcome(make())


class OnTwoLines(Bits):
    def forward(self, x: Tensor) -> Tensor:
        h = 4 // 2**self.bits
        return nn.functional.interpolate(
            x[None, None, None].float(),
            size=(h, h),
        )


def test_a_size_is_called_one():
    assert refusal_of(OnTwoLines).endswith(
        "TorchScript does not take it for a size, or another int; write `int(h)` for `h`"
    )
