"""Formats of which TorchScript would leave a part as it is are refused; plain ones are right."""

import pytest
import torch
from torch import nn

import torchremote as tr
from torchremote.errors import CreationError

from .places import names_its_line


class Words:
    def forward(self, n: int) -> str: ...


class Digits(nn.Module):
    def forward(self, n: int) -> str:
        return "step {:03d}".format(n)


class Order(nn.Module):
    def forward(self, n: int) -> str:
        return "{1} of {0}".format(n, 5)


class Braces(nn.Module):
    def forward(self, n: int) -> str:
        return "{{{}}}".format(n)


class Held(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = "{0}"

    def forward(self, n: int) -> str:
        return self.words.format(n)


class Named(nn.Module):
    def forward(self, n: int) -> str:
        words = "{!r}"
        return words.format(n)


@pytest.mark.parametrize("make", [Digits, Order, Braces, Held, Named])
def test_a_format_that_would_stay_is_refused(make):
    with pytest.raises(CreationError, match="which TorchScript would leave as it is") as found:
        tr.serve(make(), Words, "never")
    assert "{{" in str(found.value) or names_its_line(str(found.value).replace("'", '"'), __file__)


class Precise(nn.Module):
    def forward(self, n: int) -> str:
        return "mean %.1f" % float(n)


class Wide(nn.Module):
    def forward(self, n: int) -> str:
        words = "%s: %3d"
        return words % ("n", n)


class Short(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = "%g"

    def forward(self, n: int) -> str:
        return self.words % n


class Ends(nn.Module):
    def forward(self, n: int) -> str:
        words = "%d%"
        return words % n


@pytest.mark.parametrize("make", [Precise, Wide, Short, Ends])
def test_a_format_that_would_raise_is_refused(make):
    with pytest.raises(RuntimeError, match="not supported in TorchScript|Incomplete format"):  # the reason
        torch.jit.script(make())(3)
    with pytest.raises(CreationError, match="which would raise in TorchScript; it knows %c, %d") as found:
        tr.serve(make(), Words, "never")
    assert names_its_line(str(found.value).replace("'", '"'), __file__)


class Raises(nn.Module):
    def forward(self, n: int) -> str:
        assert n < 4, "%5d" % n
        if n < 0:
            raise ValueError("%.1f is negative" % float(n))
        return "%d" % (n % 2) + "%s %f %e %i %c" % ("a", 1.5, 2.5, n, n + 64)


def test_formats_of_errors_stop_no_module(owner):
    assert tr.create(owner, Words, Raises)(3) == Raises()(3)


class Right(nn.Module):
    def forward(self, n: int) -> str:
        words = "{} of {}"
        return words.format(n, 5) + "{}".format("{0}") + "%d%%" % n + f"{{{n}}}"


def test_others_are_hosted_and_right(owner):
    assert tr.create(owner, Words, Right)(3) == Right()(3) == "3 of 5{0}3%{3}"
