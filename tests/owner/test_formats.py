"""Formats of which TorchScript would leave a part as it is are refused; plain ones are right."""

import pytest
import torch
from torch import nn

import torchremote as tr
from torchremote.errors import CreationError
from torchremote.jit import compile_interface
from torchremote.owner.scripting import scripted_module

from .places import following, names_its_line, refusals


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


class OfABool(nn.Module):
    def forward(self, n: int) -> str:
        is_large = n > 2
        return "%s: %d" % ("n", is_large)


class OfAnAttribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.on = True

    def forward(self, n: int) -> str:
        return "on: %f" % self.on


class OfATensor(nn.Module):
    def forward(self, n: int) -> str:
        x = torch.ones(1) * n
        return "%d%%" % x


@pytest.mark.parametrize("make", [OfABool, OfAnAttribute, OfATensor])
def test_a_number_of_what_is_none_is_refused_with_a_remedy_that_is_right(owner, make, tmp_path):
    with pytest.raises(RuntimeError, match="expected double|requires a number"):  # the reason
        torch.jit.script(make())(3)

    refusal_of = refusals(Words)

    def pairs(said):
        written = said.rpartition("write `")[2].rstrip("`")
        return [(written, written.partition("(")[2].rstrip(")"))]

    said = refusal_of(make)
    assert names_its_line(said.replace("'", '"'), __file__)
    written = following(make, refusal_of, pairs, tmp_path)
    assert scripted_module(written(), compile_interface(Words).interface)(3) == make()(3)


class Braced(nn.Module):
    def forward(self, n: int) -> str:
        return f"{{}} {n}"


class BracedAlone(nn.Module):
    def forward(self, n: int) -> str:
        return f"a{{}}"  # noqa: F541


@pytest.mark.parametrize("make", [Braced, BracedAlone])
def test_an_f_string_with_a_pair_of_braces_is_refused(make):
    with pytest.raises(RuntimeError, match="Too few arguments"):  # the reason
        torch.jit.script(make())(3)
    with pytest.raises(CreationError, match="and write `{braces}` for `{{}}`"):
        tr.serve(make(), Words, "never")


class BracesWithAName(nn.Module):
    def forward(self, n: int) -> str:
        braces = "{}"
        return f"{braces} {n}" + f"a{braces}" + "{} {}".format(braces, n) + f"{{{n}}} {{a}} {{ {n} }}"


def test_braces_with_a_name_are_right(owner):
    assert tr.create(owner, Words, BracesWithAName)(3) == BracesWithAName()(3)


class Raises(nn.Module):
    def forward(self, n: int) -> str:
        assert n < 4, "%5d" % n
        if n < 0:
            assert n < -1, f"{{}} {n}" + "%d" % (n > 0)
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
