"""`isinstance` that TorchScript answers wrongly is refused, with a remedy that works; others are hosted."""

import enum
import re
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import CreationError
from torchremote.jit import compile_interface
from torchremote.owner.scripting import scripted_module

from .places import following, names_its_line, refusals


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(str, enum.Enum):
    A = "a"


class Pair(NamedTuple):
    a: int
    b: int


NUMBERS = (int, float)


class Asks:
    def forward(self, n: int) -> List[bool]: ...


class OfABool(nn.Module):
    def forward(self, n: int) -> List[bool]:
        return [self.asks(n > 1)]

    def asks(self, v: bool) -> bool:
        return isinstance(v, int)


class OfALocalBool(nn.Module):
    def forward(self, n: int) -> List[bool]:
        v = n > 1
        return [isinstance(v, (int, float))]


class OfAnAttribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.on = True

    def forward(self, n: int) -> List[bool]:
        return [isinstance(self.on, int)]


class OfAUnion(nn.Module):
    def forward(self, n: int) -> List[bool]:
        return [self.asks(n > 1), self.asks("a")]

    def asks(self, v: Union[bool, str]) -> bool:
        return isinstance(v, (int, float))


class OfAnOptional(nn.Module):
    def forward(self, n: int) -> List[bool]:
        return [self.asks(n > 1), self.asks(None)]

    def asks(self, v: Optional[bool]) -> bool:
        return isinstance(v, int)


class OfOneOfTwo(nn.Module):
    def forward(self, n: int) -> List[bool]:
        return [self.asks(n > 1), self.asks(n), self.asks("a")]

    def asks(self, v: Union[int, bool, str]) -> bool:
        return isinstance(v, int)


class OfAMember(nn.Module):
    def forward(self, n: int) -> List[bool]:
        return [self.asks(Level.HIGH)]

    def asks(self, v: Level) -> bool:
        return isinstance(v, int)


class OfAWord(nn.Module):
    def forward(self, n: int) -> List[bool]:
        return [self.asks(Word.A)]

    def asks(self, v: Word) -> bool:
        return isinstance(v, str)


class OfAShape(nn.Module):
    def forward(self, n: int) -> List[bool]:
        x = torch.ones(n, 2)
        return [isinstance(x.shape, tuple)]


class OfAGivenShape(nn.Module):
    def forward(self, n: int) -> List[bool]:
        x = torch.ones(n, 2)
        sizes = x.size()[:1]
        return [isinstance(sizes, list)]


class OfChunks(nn.Module):
    def forward(self, n: int) -> List[bool]:
        x = torch.ones(n, 2)
        return [isinstance(torch.split(x, 1), tuple)]


class OfATuple(nn.Module):
    def forward(self, n: int) -> List[bool]:
        return [self.asks((n, n))]

    def asks(self, v: Tuple[int, int]) -> bool:
        return isinstance(v, Pair)


class OfAnArgument(nn.Module):
    def forward(self, n: int) -> List[bool]:
        return [self.asks(torch.ones(n))]

    def asks(self, x: Tensor) -> bool:
        return isinstance(x, nn.Parameter)


class OfABuffer(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.ones(1))

    def forward(self, n: int) -> List[bool]:
        return [isinstance(self.mean, nn.Parameter)]


class OfAPart(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.ReLU())  # of two types with one name, TorchScript takes one
        self.parts = nn.Sequential(nn.Linear(1, 1))

    def forward(self, n: int) -> List[bool]:
        return [isinstance(self.parts, nn.Sequential)]


FOLLOWED = [OfABool, OfALocalBool, OfAnAttribute, OfAUnion, OfAnOptional, OfOneOfTwo, OfAMember, OfAWord, OfAShape]


refusal_of = refusals(Asks)


@pytest.mark.parametrize("make", [*FOLLOWED, OfAGivenShape, OfChunks, OfATuple, OfAnArgument, OfABuffer, OfAPart])
def test_a_question_with_a_wrong_answer_is_refused_with_its_line(make):
    assert torch.jit.script(make())(3) != make()(3)  # the reason
    said = refusal_of(make)
    assert "is answered in another way by TorchScript" in said
    assert names_its_line(said, __file__)


@pytest.mark.parametrize("make", [*FOLLOWED, OfChunks])
def test_remedies_are_hosted_and_right(make, tmp_path):
    def pairs(said):
        written = re.search(r"write `(isinstance\(.+?\))`", said)[1]
        return [(written, said.partition(": `")[2].partition("` ")[0])]

    written = following(make, refusal_of, pairs, tmp_path)
    hosted = scripted_module(written(), compile_interface(Asks).interface)
    for n in (1, 3):
        assert hosted(n) == make()(n)


class DeclaredPair(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.ones(1))
        self.parts = nn.Sequential(nn.Linear(1, 1))
        self.is_parameter = isinstance(self.mean, nn.Parameter)
        self.answer = isinstance(self.parts, nn.Sequential)

    def forward(self, n: int) -> List[bool]:
        return [self.asks(Pair(n, n)), self.is_parameter, self.answer, isinstance((n, n), tuple)]

    def asks(self, v: Pair) -> bool:
        return isinstance(v, Pair)


class Right(nn.Module):
    """Asks what TorchScript answers as Python does."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.count, self.words = 3, ["a"]

    def forward(self, n: int) -> List[bool]:
        x = torch.ones(n, 2)
        found = [isinstance(x, Tensor), isinstance(n, int), isinstance(self.count, (int, float)), isinstance(n, bool)]
        found += [isinstance(self.weight, nn.Parameter), isinstance(self.words, list), isinstance(x.shape[0], int)]
        found += [isinstance(x.shape, (list, tuple)), isinstance(x.size(0), int), isinstance(Level.LOW, Level)]
        for v in (n, "a"):
            found.append(isinstance(v, int))
        found += self.of_union(n) + self.of_union("a") + self.of_optional(n) + self.of_optional(None)
        found += (
            self.of_bools(n > 1) + self.of_bools("a") + self.of_three(n > 1) + self.of_three(n) + self.of_three("a")
        )
        found += self.of_tensors(x) + self.of_tensors(None) + self.of_tensors([x]) + self.of_pairs(Pair(1, n))
        return found

    def of_union(self, v: Union[int, str]) -> List[bool]:
        if isinstance(v, int):
            return [v > 1]
        return [isinstance(v, str), v == "a"]

    def of_optional(self, v: Optional[int]) -> List[bool]:
        return [isinstance(v, int), v is not None and isinstance(v, (int, float))]

    def of_bools(self, v: Union[bool, str]) -> List[bool]:
        if isinstance(v, bool):
            return [v]
        return [isinstance(v, int)]

    def of_three(self, v: Union[bool, int, str]) -> List[bool]:
        return [isinstance(v, int) and not isinstance(v, bool), isinstance(v, (bool, int))]

    def of_tensors(self, v: Union[Tensor, List[Tensor], None]) -> List[bool]:
        return [isinstance(v, Tensor), isinstance(v, list), isinstance(v, (list, tuple))]

    def of_pairs(self, v: Pair) -> List[bool]:
        sizes: Dict[str, int] = {"a": v.a}
        return [isinstance(v, tuple), isinstance(v, Pair), isinstance(v.a, int), isinstance(sizes["a"], int)]


@pytest.mark.parametrize("make", [Right, DeclaredPair])
def test_questions_that_are_right_are_hosted(make):
    hosted = scripted_module(make(), compile_interface(Asks).interface)
    for n in (1, 3):
        assert hosted(n) == make()(n)


# -- of type Any


class OfAny:
    def forward(self, v: Any) -> str: ...


class Named(nn.Module):
    def forward(self, v: Any) -> str:
        return "number" if isinstance(v, (int, float)) else "other"


class Used(nn.Module):
    def forward(self, v: Any) -> str:
        if isinstance(v, int):
            return str(v + 1)
        return "other"


class ParameterOfAny(nn.Module):
    def forward(self, v: Any) -> str:
        return "parameter" if isinstance(v, nn.Parameter) else "other"


class WithBools(nn.Module):
    def forward(self, v: Any) -> str:
        return "number" if isinstance(v, (int, float, bool)) else "other"


class First(nn.Module):
    def forward(self, v: Any) -> str:
        if isinstance(v, bool):
            return "bool"
        if isinstance(v, int):
            return str(v + 1)
        return "other"


class NoBool(nn.Module):
    def forward(self, v: Any) -> str:
        if isinstance(v, int) and not isinstance(v, bool):
            return str(v + 1)
        return "float" if isinstance(v, float) else "text" if isinstance(v, str) else "other"


VALUES = [True, False, 3, 1.5, "a", None, [1], torch.ones(1)]


@pytest.mark.parametrize("make", [Named, Used, ParameterOfAny])
def test_any_may_be_a_bool(make):
    wrong = torch.jit.script(make())
    assert any(wrong(v) != make()(v) for v in VALUES)  # the reason
    said = (
        "parameters and tensors have one type" if make is ParameterOfAny else "it may be a bool, and a bool is no int"
    )
    with pytest.raises(CreationError, match=said) as found:
        tr.serve(make(), OfAny, "never")
    assert names_its_line(str(found.value), __file__)


@pytest.mark.parametrize("make", [WithBools, First, NoBool])
def test_one_that_asks_for_bools_is_right(owner, make):
    stub = tr.create(owner, OfAny, make)
    for _ in range(3):
        assert [stub(v) for v in VALUES] == [make()(v) for v in VALUES]
