"""`is` with an enum's member or a string, which TorchScript answers wrongly, is refused; other code is not."""

import enum
import importlib
from typing import List, Optional, Tuple, Union

import pytest
import torch
from torch import nn

import torchremote as tr
from torchremote.errors import CreationError

from . import test_identity as this_module


class Mode(enum.Enum):
    FAST = 1
    SLOW = 2


class Asks:
    def forward(self, mode: Mode) -> bool: ...


FASTEST = Mode.FAST
mode = Mode.SLOW  # has the name of an argument


class Is(nn.Module):
    def forward(self, mode: Mode) -> bool:
        return mode is Mode.FAST


class IsNot(nn.Module):
    def forward(self, mode: Mode) -> bool:
        return Mode.FAST is not mode


class InACondition(nn.Module):
    def forward(self, mode: Mode) -> bool:
        count = 0
        while count < 3 and (mode is Mode.FAST):
            count += 1
        return count == 3


class Dotted(nn.Module):
    def forward(self, mode: Mode) -> bool:
        return mode is this_module.Mode.FAST


class Global(nn.Module):
    def forward(self, mode: Mode) -> bool:
        return mode is FASTEST


class Local(nn.Module):
    def forward(self, mode: Mode) -> bool:
        wanted = Mode.FAST
        return mode is wanted


class Typed(nn.Module):
    def __init__(self):
        super().__init__()
        self.modes = [Mode.FAST]

    def forward(self, mode: Mode) -> bool:
        wanted: Mode = self.modes[0]
        return self.modes[0] is mode and wanted is mode


class Attribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.wanted = Mode.FAST

    def forward(self, mode) -> bool:
        # type: (Mode) -> bool
        return mode is self.wanted


class OfAPart(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = Attribute()

    def forward(self, mode: Mode) -> bool:
        return self.part.wanted is mode


def free(one: "Optional[Mode]", other: Union[Mode, None]) -> bool:
    return one is other


class Helper(nn.Module):
    def forward(self, mode: Mode) -> bool:
        return free(mode, Mode.FAST)


class String(nn.Module):
    def __init__(self):
        super().__init__()
        self.name = "FAST"

    def forward(self, mode: Mode) -> bool:
        return mode.name is self.name


@pytest.mark.parametrize(
    "make", [Is, IsNot, InACondition, Dotted, Global, Local, Typed, Attribute, OfAPart, Helper, String]
)
def test_what_would_be_wrong_is_refused_with_method_line_and_remedy(make):
    scripted = torch.jit.script(make())
    assert any(scripted(mode) != make()(mode) for mode in Mode)  # the reason
    with pytest.raises(CreationError) as found:
        tr.serve(make(), Asks, "never")
    said = str(found.value)
    place, _, what = said.partition(": `")
    line = int(place.rpartition(":")[2].rstrip(")"))
    with open(__file__) as file:
        text = file.read().splitlines()[line - 1]
    assert what.partition("`")[0] in text
    kind = "a string" if make is String else "an enum's member"
    assert f"compares {kind} by identity" in said
    assert ("write `!=` for `is not`" if make is IsNot else "write `==` for `is`") in said


LITERAL = """
from torch import nn
class Named(nn.Module):
    def forward(self, name: str) -> bool:
        return name is "a"
"""


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
def test_a_literal_string(tmp_path, monkeypatch):
    (tmp_path / "literal_identity.py").write_text(LITERAL)
    monkeypatch.syspath_prepend(tmp_path)
    named = importlib.import_module("literal_identity").Named
    with pytest.raises(CreationError, match=r"^Named\.forward \(.*_identity\.py:5\): `name is 'a'` compares a string"):
        tr.serve(named(), Names, "never")


class Names:
    def forward(self, name: str) -> bool: ...


# -- what is right


class Right(nn.Module):
    def forward(self, mode: Mode) -> bool:
        return mode == Mode.FAST


class Others(nn.Module):
    """Compares what TorchScript does not copy."""

    def __init__(self):
        super().__init__()
        self.wanted: Optional[Mode] = None
        self.linear = nn.Linear(1, 1)

    def forward(self, mode: Mode) -> bool:
        wanted = self.wanted
        items = [1]
        same: List[int] = items
        right = self.linear.weight.dtype is torch.float32 and same is items and self.training is True
        return right and wanted is None and self.named(3, mode)

    def named(self, count: int, maybe: Optional[Mode]) -> bool:
        mode: Optional[Tuple[int, Mode]] = None  # a local name, and no member
        kept = mode
        number = count
        return mode is kept and maybe is not None and maybe == Mode.FAST and count is number


class OnlyInPython(nn.Module):
    def forward(self, mode: Mode) -> bool:
        if not torch.jit.is_scripting():
            return mode is Mode.FAST
        return self.ignored(mode)

    @torch.jit.ignore
    def ignored(self, mode: Mode) -> bool:
        return mode.name is Mode.FAST.name


class Part(nn.Module):
    def forward(self, mode: Mode) -> bool:
        return mode == Mode.FAST


class OfAScriptedPart(nn.Module):
    """Uses attributes of a part that is scripted already, as a stub is."""

    def __init__(self):
        super().__init__()
        self.part = torch.jit.script(Part())
        self.parts = nn.ModuleList([self.part])

    def forward(self, mode: Mode) -> bool:
        answer = torch.jit.fork(self.part.forward, mode)
        found = torch.jit.wait(answer)
        for part in self.parts:
            found = part.forward(mode) and found
        return found


@pytest.mark.parametrize("make", [Right, Others, OfAScriptedPart])
def test_what_is_right_is_hosted(owner, make):
    stub = tr.create(owner, Asks, make)
    assert [stub(mode) for mode in Mode] == [True, False]


def test_what_only_python_runs_is_not_read():
    tr.serve(OnlyInPython(), Asks, "only_in_python")
    tr.withdraw("only_in_python")
