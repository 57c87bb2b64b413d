"""Which modules change themselves, and which only look as if they did."""

from typing import Dict, List, NamedTuple, Optional, Tuple

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote import _torch
from torchremote.owner.checks.self_changing import change_of

from .. import zoo

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@torch.jit.script
class Box:
    def __init__(self, value: int):
        self.value = value
        self.inside: List[int] = []

    def put(self, value: int):
        self.value = value


class Pair(NamedTuple):
    numbers: List[int]
    x: Tensor


class Base(nn.Module):
    tensors: List[Tensor]
    lists: Dict[str, List[int]]
    optional: Optional[List[int]]
    pair: Tuple[List[int], int]
    named: Pair

    def __init__(self):
        super().__init__()
        self.hidden = torch.zeros(2)
        self.tensors = []
        self.lists = {"a": [1]}
        self.optional = [1]
        self.pair = ([1], 1)
        self.named = Pair([1], torch.ones(1))
        self.count = 0
        self.box = Box(1)
        self.linear = nn.Linear(2, 2)


class Assigns(Base):
    def forward(self, x: Tensor) -> Tensor:
        self.hidden = self.hidden + x
        return x


class Counts(Base):
    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return x


class AssignsUnderAnIf(Base):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            for _ in range(2):
                self.hidden = x
        return x


class ByAHelper(Base):
    def remember(self, x: Tensor) -> None:
        self.hidden = x

    def forward(self, x: Tensor) -> Tensor:
        self.remember(x)
        return x


class InAPart(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(2, 2), nn.Sequential(Assigns())])

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return x


class Appends(Base):
    def forward(self, x: Tensor) -> Tensor:
        self.tensors.append(x)
        return x


class Inserts(Base):
    def forward(self, x: Tensor) -> Tensor:
        self.lists["b"] = [2]
        return x


class InADict(Base):
    def forward(self, x: Tensor) -> Tensor:
        self.lists["a"].append(2)
        return x


class Sorts(Base):
    def forward(self, x: Tensor) -> Tensor:
        for _, numbers in self.lists.items():
            numbers.sort()
        return x


class ThroughAnOptional(Base):
    def forward(self, x: Tensor) -> Tensor:
        numbers = self.optional
        if numbers is not None:
            numbers.clear()
        return x


class ThroughATuple(Base):
    def forward(self, x: Tensor) -> Tensor:
        numbers, _ = self.pair
        numbers.pop()
        return x


class ThroughANamedTuple(Base):
    def forward(self, x: Tensor) -> Tensor:
        self.named.numbers.extend([1, 2])
        return x


class ThroughItsOwnList(Base):
    def forward(self, x: Tensor) -> Tensor:
        mine: List[List[int]] = []
        mine.append(self.lists["a"])
        mine[0].reverse()
        return x


class InALoop(Base):
    def forward(self, x: Tensor) -> Tensor:
        tensors = [x]
        for _ in range(3):
            tensors.append(x)
            tensors = self.tensors
        return x


class InOneBranch(Base):
    def forward(self, x: Tensor) -> Tensor:
        tensors = self.tensors
        if x.numel() > 2:
            tensors = [x]
        tensors.append(x)
        return x


class InAFork(Base):
    def work(self, x: Tensor) -> Tensor:
        self.tensors.append(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return torch.jit.fork(self.work, x).wait()


class InAClass(Base):
    def forward(self, x: Tensor) -> Tensor:
        self.box.put(3)
        return x


class InAListOfAClass(Base):
    def forward(self, x: Tensor) -> Tensor:
        self.box.inside.append(3)
        return x


class ByAnExportedMethod(Base):
    def forward(self, x: Tensor) -> Tensor:
        return x

    @torch.jit.export
    def reset(self) -> None:
        self.hidden = torch.zeros(2)


CHANGING = {
    Assigns: "forward assigns self.hidden",
    Counts: "forward assigns self.count",
    AssignsUnderAnIf: "forward assigns self.hidden",
    ByAHelper: "forward assigns self.hidden",
    InAPart: "forward assigns self.hidden",
    Appends: "forward changes a list that the module holds (append)",
    Inserts: "forward changes a dict that the module holds (_set_item)",
    InADict: "forward changes a list that the module holds (append)",
    Sorts: "forward changes a list that the module holds (sort)",
    ThroughAnOptional: "forward changes a list that the module holds (clear)",
    ThroughATuple: "forward changes a list that the module holds (pop)",
    ThroughANamedTuple: "forward changes a list that the module holds (extend)",
    ThroughItsOwnList: "forward changes a list that the module holds (reverse)",
    InALoop: "forward changes a list that the module holds (append)",
    InOneBranch: "forward changes a list that the module holds (append)",
    InAFork: "forward changes a list that the module holds (append)",
    InAClass: "forward assigns self.value",
    InAListOfAClass: "forward changes a list that the module holds (append)",
    ByAnExportedMethod: "reset assigns self.hidden",
}


@pytest.mark.parametrize("cls", CHANGING, ids=lambda cls: cls.__name__)
def test_a_module_that_changes_itself(cls):
    assert CHANGING[cls] in change_of(torch.jit.script(cls()))


@torch.jit.interface
class Listing(nn.Module):
    def forward(self, x: Tensor) -> List[Tensor]:
        pass


class GivesItsOwn(Base):
    def forward(self, x: Tensor) -> List[Tensor]:
        return self.tensors


class GivesANewOne(Base):
    def forward(self, x: Tensor) -> List[Tensor]:
        return [x]


class ChangesAndGives(Base):
    def forward(self, x: Tensor) -> List[Tensor]:
        self.count += 1
        return [x]


class Behind(nn.Module):
    part: Listing

    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> List[Tensor]:
        return self.part.forward(x)


class AppendsTo(Behind):
    def forward(self, x: Tensor) -> List[Tensor]:
        tensors = self.part.forward(x)
        tensors.append(x)
        return tensors


@pytest.mark.parametrize(
    ("outside", "part", "changes"),
    [
        (Behind, GivesItsOwn, False),
        (Behind, GivesANewOne, False),
        (Behind, ChangesAndGives, True),
        (AppendsTo, GivesItsOwn, True),
        (AppendsTo, GivesANewOne, False),
    ],
)
def test_a_module_with_a_part_behind_an_interface(outside, part, changes):
    assert (change_of(torch.jit.script(outside(part()))) is not None) == changes


class MakesItsOwn(Base):
    def forward(self, x: Tensor, given: List[Tensor]) -> Tensor:
        made: List[Tensor] = []
        for _ in range(3):
            made.append(self.linear(x))
        made += self.tensors
        copied = self.tensors.copy()
        copied.append(x)
        lengths = [len(numbers) for numbers in self.lists.values()]
        lengths.append(1)
        given.append(x)
        of_lists: Dict[str, List[int]] = {}
        of_lists["a"] = [1]
        of_lists["a"].append(2)
        box = Box(2)
        box.put(3)
        box.inside.append(4)
        return torch.stack(made) + torch.jit.fork(self.linear, x).wait()


class InPlace(Base):
    def forward(self, x: Tensor) -> Tensor:
        self.hidden.add_(x)
        return x


@pytest.mark.parametrize(
    "make",
    [
        MakesItsOwn,
        InPlace,
        zoo.LinearEncoder,
        lambda: nn.BatchNorm1d(2),
        lambda: nn.LSTM(2, 2),
        lambda: nn.MultiheadAttention(8, 2),
        lambda: torch.jit.freeze(torch.jit.script(nn.Linear(2, 2).eval())),
    ],
)
def test_a_module_that_does_not(make):
    assert change_of(torch.jit.script(make())) is None


def test_a_stub_changes_nothing(owner):
    class Model(nn.Module):
        encoder: zoo.Encoder

        def __init__(self, encoder):
            super().__init__()
            self.encoder = encoder

        def forward(self, x: Tensor) -> Tensor:
            return self.encoder.forward(x) + self.encoder.topk(x, k=1)[0]

    assert change_of(torch.jit.script(Model(tr.create(owner, zoo.Encoder, zoo.LinearEncoder)))) is None


def test_an_operator_whose_signature_cannot_be_read_changes_nothing(monkeypatch):
    def unreadable(text):
        raise RuntimeError("unknown type")

    monkeypatch.setattr(_torch, "parse_schema", unreadable)
    from torchremote.owner.checks import self_changing

    self_changing._schema.cache_clear()
    try:
        assert change_of(torch.jit.script(MakesItsOwn())) is None
        assert change_of(torch.jit.script(Assigns())) is not None
    finally:
        self_changing._schema.cache_clear()
