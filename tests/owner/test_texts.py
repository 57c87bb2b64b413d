"""Methods of strings come to an end on an owner. In TorchScript alone, some would take a thread for ever."""

from typing import List

import pytest
import torch
from torch import nn

import torchremote as tr
from torchremote.errors import RemoteError
from torchremote.jit import compile_interface
from torchremote.owner.scripting import scripted_module


class Padded:
    def forward(self, text: str, width: int) -> List[str]: ...


class Pads(nn.Module):
    def forward(self, text: str, width: int) -> List[str]:
        words = [text.center(width), text.ljust(width, "."), text.rjust(width, "."), text.center(-2), text.center(6)]
        words.append(text.zfill(width))
        return words


WIDTHS = [-(2**63), -2, -1, 0, 1, 5, 9]


@pytest.mark.parametrize("make", [Pads, lambda: torch.jit.script(Pads())])
def test_a_negative_width_changes_nothing(owner, make):
    stub = tr.create(owner, Padded, make, timeout=10.0)
    for _ in range(3):
        for width in WIDTHS:
            for text in ("", "ab", "abc d"):
                assert stub(text, width) == Pads()(text, width)


class Found:
    def forward(self, text: str, part: str, way: int) -> List[str]: ...


class Searches(nn.Module):
    def forward(self, text: str, part: str, way: int) -> List[str]:
        if way == 0:
            return text.rsplit(part)
        if way == 1:
            return [str(text.count(part))]
        if way == 2:
            return [text.replace(part, "x")]
        if way == 3:
            return [text.replace("", "x")]
        if way == 4:
            return text.split(part)
        return [str(["a", part].count(part)), text.replace("-", "")]


@pytest.mark.parametrize("way", range(5))
def test_a_search_for_an_empty_text_is_an_error(owner, way):
    stub = tr.create(owner, Found, Searches, timeout=10.0)
    for _ in range(3):
        if way != 3:
            assert stub("a-b", "-", way) == Searches()("a-b", "-", way)
        for text in ("", "abc"):
            with pytest.raises(RemoteError, match=r"count, replace and rsplit take none|empty separator"):
                stub(text, "", way)
    assert stub("a-b", "-", 5) == Searches()("a-b", "-", 5)  # the owner lives


def test_a_search_for_a_constant_stays_as_it_is():
    class Constant(nn.Module):
        def forward(self, text: str, part: str, way: int) -> List[str]:
            return [part, str(text.count("-")), str(text.rsplit("-")), text.replace("a", part).center(5)]

    graph = scripted_module(Constant(), compile_interface(Found).interface).graph
    assert not any(name in str(graph) for name in ("prim::If", "prim::max"))


class Splits(nn.Module):
    def forward(self, text: str, width: int) -> List[str]:
        return text.splitlines() if width == 0 else text.splitlines(width == 1)


ENDS = ["\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\u0445", "\n\r"]


@pytest.mark.parametrize("make", [Splits, lambda: torch.jit.script(Splits())])
def test_lines_are_those_of_python(owner, make):
    stub = tr.create(owner, Padded, make)
    for end in ENDS:
        for text in ("", "a", end, f"a{end}b", f"a{end}", f"{end}{end}b", f"a\r{end}é{end}"):
            for way in (0, 1, 2):
                assert stub(text, way) == Splits()(text, way)


class Fills(nn.Module):
    def forward(self, text: str, width: int) -> List[str]:
        return [text.zfill(width), text.zfill(3), str(width).zfill(5)]


@pytest.mark.parametrize("make", [Fills, lambda: torch.jit.script(Fills())])
def test_zeros_come_behind_a_sign(owner, make):
    stub = tr.create(owner, Padded, make)
    for text in ("", "-", "+", "-4", "+7", "--4", "4", " -4", "ab", "-12345"):
        for width in WIDTHS:
            assert stub(text, width) == Fills()(text, width)


class Begins(nn.Module):
    def forward(self, text: str, width: int) -> List[str]:
        found = [text.startswith("a", width), text.startswith("", width), text.startswith("ba", 1)]
        found += [text.startswith("a", 1, 3), text.startswith("a")]
        return [str(one) for one in found]


@pytest.mark.parametrize("make", [Begins, lambda: torch.jit.script(Begins())])
def test_a_start_behind_the_end_is_false(owner, make):
    stub = tr.create(owner, Padded, make)
    for text in ("", "a", "ba", "aba", "ab"):
        for width in WIDTHS:
            if len(text) >= 1:  # the third takes a constant
                assert stub(text, width) == Begins()(text, width)


def test_a_module_that_was_saved_after_it_was_hosted_is_right(owner, tmp_path):
    for make in (Splits, Fills):
        hosted = scripted_module(make(), compile_interface(Padded).interface)
        torch.jit.save(hosted, tmp_path / "hosted.pt")
        stub = tr.create(owner, Padded, torch.jit.load, args=(str(tmp_path / "hosted.pt"),))
        for text in ("--4", "a\r\nb\n"):
            assert stub(text, 5) == make()(text, 5)
