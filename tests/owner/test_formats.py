"""Formats of which TorchScript would leave a part as it is are refused; plain ones are right."""

import pytest
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


class Right(nn.Module):
    def forward(self, n: int) -> str:
        words = "{} of {}"
        return words.format(n, 5) + "{}".format("{0}") + "%d%%" % n + f"{{{n}}}"


def test_others_are_hosted_and_right(owner):
    assert tr.create(owner, Words, Right)(3) == Right()(3) == "3 of 5{0}3%{3}"
