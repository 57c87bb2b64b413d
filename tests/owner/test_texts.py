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
