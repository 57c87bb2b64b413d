"""Methods of strings and dicts that do something else in TorchScript are refused, with a remedy that works."""

from typing import Dict, List, Optional

import pytest
import torch
from torch import nn

import torchremote as tr
from torchremote.errors import CreationError
from torchremote.jit import compile_interface
from torchremote.owner.scripting import scripted_module

from .places import following, names_its_line, refusals


class Words:
    def forward(self, text: str, n: int) -> List[str]: ...


class Splits(nn.Module):
    def forward(self, text: str, n: int) -> List[str]:
        return text.split(None, n)


def first(text: str) -> List[str]:
    return text.split(None, 1)


class InFunction(nn.Module):
    def forward(self, text: str, n: int) -> List[str]:
        words = [text]
        for _ in range(n):
            words = first(words[0])
        return words


class At(nn.Module):
    at: Optional[str]

    def __init__(self):
        super().__init__()
        self.at = None

    def forward(self, text: str, n: int) -> List[str]:
        return text.split(self.at, n)


class Last(nn.Module):
    def forward(self, text: str, n: int) -> List[str]:
        words = {"a": n, "b": n + 1}
        return [words.popitem()[0]]


class FromRight(nn.Module):
    def forward(self, text: str, n: int) -> List[str]:
        return text.strip().rsplit()


@pytest.mark.parametrize("make", [Splits, InFunction, At, Last, FromRight])
def test_a_method_that_does_something_else_is_refused(make):
    wrong = torch.jit.script(make())
    assert any(wrong(text, 1) != make()(text, 1) for text in ("a b  c", "a\tb"))  # the reason
    with pytest.raises(CreationError, match="TorchScript") as found:
        tr.serve(make(), Words, "never")
    assert names_its_line(str(found.value).replace("(...)", "(").replace("`words.popitem()`", "`.popitem()`"), __file__)


@pytest.mark.parametrize("make", [Splits, Last])
def test_so_is_one_that_was_scripted_before(make):
    with pytest.raises(CreationError, match="TorchScript"):
        tr.serve(torch.jit.script(make()), Words, "never")


class Remedied(nn.Module):
    def forward(self, text: str, n: int) -> List[str]:
        words = " ".join(text.split()).split(" ", n) + text.split(" ", n) + text.split() + text.split(None, -1)
        words += text.rsplit(" ") + text.rsplit(" ", n) + text.split("-", n) + text.strip().split()
        mapping: Dict[str, int] = {}
        for word in words:
            mapping[word] = n
        while len(mapping) > 2:
            key = list(mapping.keys())[-1]
            mapping.pop(key)
            words.append(key)
        return words


def test_remedies_are_hosted_and_right():
    hosted, local = scripted_module(Remedied(), compile_interface(Words).interface), Remedied()
    for text in ("a b c", "a  b c", " a b", "k=v w-x-y"):
        for n in (0, 1, 2, 9):
            assert hosted(text, n) == local(text, n)


class Own(nn.Module):
    def forward(self, text: str, n: int) -> List[str]:
        return self.rsplit()

    def rsplit(self) -> List[str]:
        return ["own"]


def test_a_users_method_of_that_name_is_hosted():
    assert scripted_module(Own(), compile_interface(Words).interface)("", 1) == ["own"]


class Sorts(nn.Module):
    def forward(self, text: str, n: int) -> List[str]:
        return sorted(text.strip())


class Joins(nn.Module):
    def __init__(self):
        super().__init__()
        self.dash = "-"

    def forward(self, text: str, n: int) -> List[str]:
        found = text + "c"
        return [self.dash.join(found)]


class SortsATable(nn.Module):
    def __init__(self):
        super().__init__()
        self.letters = "banana"

    def forward(self, text: str, n: int) -> List[str]:
        return sorted(self.letters)


@pytest.mark.parametrize("make", [Sorts, Joins, SortsATable])
def test_a_text_that_stands_for_its_letters_is_refused_with_a_remedy_that_is_right(make, tmp_path):
    assert torch.jit.script(make())("ab", 1) != make()("ab", 1)  # the reason

    refusal_of = refusals(Words)

    def pairs(said):
        return [(said.rpartition("write `")[2].rstrip("`"), said.partition(": `")[2].partition("` ")[0])]

    said = refusal_of(make)
    assert "takes the whole text for one item in TorchScript" in said
    assert names_its_line(said, __file__)
    written = following(make, refusal_of, pairs, tmp_path)
    assert scripted_module(written(), compile_interface(Words).interface)("ba", 1) == make()("ba", 1)


def test_lists_of_texts_are_hosted():
    class Lists(nn.Module):
        def forward(self, text: str, n: int) -> List[str]:
            words = [text]
            words.append("a")
            both = sorted(list(text)) + sorted(text.split(" ")) + sorted([text]) + sorted(words)  # noqa: C414
            both += ["-".join(words), "-".join([text, "b"]), "-".join(["x" + word for word in words])]
            return both

    hosted = scripted_module(Lists(), compile_interface(Words).interface)
    assert hosted("c b", 1) == Lists()("c b", 1)


class Lists:
    def forward(self, lists: List[List[int]]) -> List[int]: ...


class SortsLists(nn.Module):
    def forward(self, lists: List[List[int]]) -> List[int]:
        return sorted(lists)[0]


class SortsInPlace(nn.Module):
    def forward(self, lists: List[List[int]]) -> List[int]:
        pairs = [(one, len(one)) for one in lists]
        pairs.sort()
        return pairs[0][0]


class SortsTuples(nn.Module):
    def forward(self, lists: List[List[int]]) -> List[int]:
        first = sorted([(one[0], one[1]) for one in lists])[0]
        return [first[0], first[1]]


@pytest.mark.parametrize("make", [SortsLists, SortsInPlace])
def test_lists_that_are_sorted_are_refused(make):
    with pytest.raises(RuntimeError, match="sort"):  # the reason
        torch.jit.script(make())([[2, 1], [1, 2]])
    with pytest.raises(CreationError, match="of lists in a list would raise in TorchScript; write tuples for them"):
        tr.serve(make(), Lists, "never")


def test_tuples_are_sorted():
    lists = [[2, 1], [1, 3], [1, 2]]
    assert scripted_module(SortsTuples(), compile_interface(Lists).interface)(lists) == SortsTuples()(lists) == [1, 2]
