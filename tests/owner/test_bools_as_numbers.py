"""A bool that TorchScript takes for an int in an operation on masks is refused; other code is not."""

import re
from typing import Optional

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import CreationError
from torchremote.jit import compile_interface
from torchremote.owner.scripting import scripted_module

from .places import following, names_its_line, refusals


class OnTensor:
    def forward(self, x: Tensor) -> Tensor: ...


class Masking(nn.Module):
    def __init__(self):
        super().__init__()
        self.on, self.mode = True, "causal"
        self.register_buffer("mask", torch.tensor([True, False]))


class And(Masking):
    def forward(self, x: Tensor) -> Tensor:
        return (x > 0) & self.on


class Undeclared(Masking):
    def forward(self, x):
        return (x.abs() > 1) | self.on


class OfABuffer(Masking):
    def forward(self, x: Tensor) -> Tensor:
        return self.mask ^ self.on


class Argument(Masking):
    def forward(self, x: Tensor) -> Tensor:
        return self.masked(x > 0, self.on)

    def masked(self, mask: Tensor, on: bool) -> Tensor:
        return ~mask & on


class InPlace(Masking):
    def forward(self, x: Tensor) -> Tensor:
        mask = x.isnan()
        mask |= not self.on
        return mask


class OfASize(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        mask = x > 0
        is_vector = x.dim() == 1
        return mask & is_vector


class OfANumber(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return self.masked(x > 0, 3)

    def masked(self, mask: Tensor, n: int) -> Tensor:
        is_large = n > 2
        return mask & is_large


class OfAText(Masking):
    def forward(self, x: Tensor) -> Tensor:
        return self.masked(x > 0, "causal")

    def masked(self, mask: Tensor, mode: str) -> Tensor:
        return mask & (mode == self.mode)


class OfNone(Masking):
    def forward(self, x: Tensor, y: Optional[Tensor] = None) -> Tensor:
        return (x > 0) & (y is None)


class Causal(Masking):
    def forward(self, x: Tensor) -> Tensor:
        return torch.triu(torch.ones(2, 2, dtype=torch.bool), 1)[0] | self.on


class Where(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, True, False)


class WhereMask(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        mask = x > 0
        return mask.where(x < 2, False)


class Function(Masking):
    def forward(self, x: Tensor) -> Tensor:
        return torch.bitwise_and(x > 0, self.on)


class Full(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.full((x.size(0),), fill_value=True)


class OfAPair(Masking):
    def forward(self, x: Tensor) -> Tensor:
        causal, n = True, 1
        return (x > n) & causal


class OfTwoPairs(Masking):
    def forward(self, x: Tensor) -> Tensor:
        causal, n = (self.on, 1) if x.dim() == 1 else (False, 2)
        return (x > n) & causal


class Flags(Masking):
    def __init__(self):
        super().__init__()
        self.flags = [True, False]

    def forward(self, x: Tensor) -> Tensor:
        return (x > 0) | self.flags[1]


class Rows(Masking):
    def forward(self, x: Tensor) -> Tensor:
        for row in x[:, None] > 0:
            if bool(row.any()):
                return row & self.on
        return x > 0


class Done(Masking):
    """Assigns a buffer, as an environment does."""

    def forward(self, x: Tensor) -> Tensor:
        self.mask = torch.where(x > 0, True, self.mask)
        return self.mask


class DoneArgument(Masking):
    def forward(self, x: Tensor) -> Tensor:
        return self.masked(x > 0, self.mask)

    def masked(self, ended: Tensor, done: Tensor) -> Tensor:
        return torch.where(ended, True, done)


class DoneName(Masking):
    def forward(self, x: Tensor) -> Tensor:
        done = self.mask.clone()
        for i in range(2):
            done = torch.where(x > i, False, done)
        return done


class DoneMethod(Masking):
    def forward(self, x: Tensor) -> Tensor:
        return self.mask.where(condition=x > 0, other=self.on)


class WhereOfAComparison(Masking):
    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, True, x > 2)


class HalfMended(Masking):
    """Has done for one bool what has to be done for both."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, torch.tensor(True), False)


class OneOfTwoTensors(Masking):
    def forward(self, x: Tensor) -> Tensor:
        other = x > 2
        if x.dim() == 3:
            other = x
        return torch.where(x > 0, self.on, other)


class Nested(Masking):
    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 3, self.on, torch.where(x > 0, True, self.mask))


class Sum(Masking):
    def forward(self, x: Tensor) -> Tensor:
        return (x > 0) + self.on


class Product(Masking):
    def forward(self, x: Tensor) -> Tensor:
        return self.mask.mul(self.on)


REFUSED = {
    Done: "torch.tensor(True)",
    DoneArgument: "torch.tensor(True)",
    DoneName: "torch.tensor(False)",
    DoneMethod: "torch.tensor(self.on)",
    WhereOfAComparison: "torch.tensor(True)",
    HalfMended: "torch.tensor(False)",
    OneOfTwoTensors: "torch.tensor(self.on)",
    Nested: "torch.tensor(self.on)",
    Sum: "torch.tensor(self.on)",
    Product: "torch.tensor(self.on)",
    OfAPair: "torch.tensor(causal)",
    OfTwoPairs: "torch.tensor(causal)",
    Flags: "torch.tensor(self.flags[1])",
    Rows: "torch.tensor(self.on)",
    And: "torch.tensor(self.on)",
    Undeclared: "torch.tensor(self.on)",
    OfABuffer: "torch.tensor(self.on)",
    Argument: "torch.tensor(on)",
    InPlace: "torch.tensor(not self.on)",
    OfANumber: "torch.tensor(is_large)",
    OfAText: "torch.tensor(mode == self.mode)",
    OfNone: "torch.tensor(y is None)",
    Causal: "torch.tensor(self.on)",
    OfASize: "torch.tensor(is_vector)",
    Where: "torch.tensor(True)` and `torch.tensor(False)",
    WhereMask: "torch.tensor(False)",
    Function: "torch.tensor(self.on)",
    Full: "dtype=torch.bool",
}


@pytest.mark.parametrize(("make", "remedy"), REFUSED.items(), ids=lambda one: getattr(one, "__name__", ""))
def test_what_would_have_integers_is_refused_with_method_line_and_remedy(make, remedy):
    x = torch.tensor([-1.0, 3.0])
    assert make()(x).dtype is torch.bool
    assert torch.jit.script(make())(x).dtype is torch.int64  # the reason
    with pytest.raises(CreationError) as found:
        tr.serve(make(), OnTensor, "never")
    assert str(found.value).endswith(f"so the result has integers for bools; write `{remedy}`")
    assert names_its_line(str(found.value), __file__)


refusal_of = refusals(OnTensor)


def remedies(refusal):
    bools = re.findall("`([^`]+)`", re.search(r" passes (?:a bool|bools), (.*?), which TorchScript", refusal)[1])
    written = re.findall("`([^`]+)`", refusal.rpartition("; write ")[2])
    if written == ["dtype=torch.bool"]:
        return [(f"{bools[0]}, {written[0]}", bools[0])]
    return list(zip(written, bools, strict=True))


@pytest.mark.parametrize("make", REFUSED, ids=lambda one: one.__name__)
def test_what_is_written_as_the_refusal_says_is_hosted_and_right(make, tmp_path):
    x = torch.tensor([-1.0, 3.0])
    mended = scripted_module(following(make, refusal_of, remedies, tmp_path)(), compile_interface(OnTensor).interface)
    original = make()
    for _ in range(3):
        expected, found = original(x), mended(x)
        assert found.dtype is expected.dtype is torch.bool
        assert torch.equal(found, expected)


class Reversed(Masking):
    """TorchScript would convert the tensor, which raises in each call."""

    def forward(self, x: Tensor) -> Tensor:
        return self.on & (x > 0)


def test_a_bool_on_the_left_is_refused_too():
    with pytest.raises(CreationError, match=r"write `torch.tensor\(self.on\)`"):
        tr.serve(Reversed(), OnTensor, "never")


class Right(Masking):
    """Has masks and bools side by side, each in its place."""

    def __init__(self):
        super().__init__()
        self.bits = 3

    def forward(self, x: Tensor) -> Tensor:
        on = self.on & (x.dim() == 1) | (x.size(0) > 2)
        mask = (x > 0) & torch.tensor(on) & self.mask
        mask |= torch.where(mask, torch.tensor(False), torch.tensor(on))
        mask = mask & torch.full((2,), True, dtype=torch.bool) & torch.full_like(mask, on) & mask.new_full((2,), on)
        mask = mask.logical_and(torch.tensor(not on)) | mask.masked_fill(x > 2, on)
        bits = (x.to(torch.int64) & self.bits) + (x.long() & on)
        filled = torch.zeros(2)
        torch.full((2,), True, out=filled)
        bits = bits + torch.where(mask, x.float(), on) + x.float().where(mask, False) + filled
        floats = torch.where(mask, on, 0.5) + torch.where(mask, 2, on) + torch.where(mask, torch.relu(x).exp(), on)
        bits = bits + torch.where(mask, on, floats) + torch.where(mask, floats.long(), on) + (x > 1) * 2
        mask = mask.index_fill(0, torch.tensor([0]), on).scatter(0, torch.tensor([1]), on) | (mask == on)
        for i in range(2):
            bits = bits + (self.count(x) & self.on) * i
        return torch.where(mask, x * self.on, torch.full((2,), 0.5)) + bits + where(x, self.on)

    def count(self, x: Tensor) -> int:
        return x.size(0) + 1


def where(x: Tensor, on: bool) -> Tensor:
    return x if on else -x


class Choice(nn.Module):
    def forward(self, x: Tensor, on: bool) -> Tensor:
        return x if on else -x


class Choices:
    def __init__(self):
        pass

    def full(self, x: Tensor, on: bool) -> Tensor:
        return x if on else -x


class Taken(Masking):
    """Functions of the user's have names of torch's."""

    def __init__(self):
        super().__init__()
        self.where = Choice()

    def forward(self, x: Tensor) -> Tensor:
        return where(x, self.on) + self.where(x, True) + self.bitwise_and(x, True) + Choices().full(x, False)

    def bitwise_and(self, x: Tensor, on: bool) -> Tensor:
        return x if on else -x


@pytest.mark.parametrize("make", [Right, Taken])
def test_other_code_is_hosted_and_right(owner, make):
    x = torch.tensor([-1.0, 3.0])
    stub = tr.create(owner, OnTensor, make)
    for _ in range(3):
        assert torch.equal(stub(x), make()(x))
