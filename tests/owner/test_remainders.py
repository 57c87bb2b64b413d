"""`a %= b` is refused with what to write, and what is to be written is right."""

from typing import Dict, List

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import CreationError

from .places import names_its_line


class OnTensor:
    def forward(self, x: Tensor) -> Tensor: ...


class Held(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("phases", torch.tensor([-0.25, 0.5, -1.75]))
        self.phase, self.count, self.counts = -0.25, -7, [-7, 5]


class OfTheAttribute(Held):
    def forward(self, x: Tensor) -> Tensor:
        self.phase %= 1.0
        return x + self.phase


class OfTheTensor(Held):
    def forward(self, x: Tensor) -> Tensor:
        self.phases %= 1.0
        return x + self.phases


class OfASlice(Held):
    def forward(self, x: Tensor) -> Tensor:
        self.phases[1:] %= x[0] - 2.0
        return x + self.phases


class OfAnItem(Held):
    def forward(self, x: Tensor) -> Tensor:
        angles: Dict[int, float] = {1: -0.25}
        angles[1] %= 1.0
        return x + angles[1]


class OfAnInt(Held):
    def forward(self, x: Tensor) -> Tensor:
        k = self.count
        k %= 4 + 1
        return x + k


class OfAnArgument(Held):
    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 1:
            for _ in range(2):
                x %= -1.5
        return x


class Angle:
    def __init__(self, at: float):
        self.at = at

    def turn(self, by: float) -> float:
        self.at += by
        self.at %= 1.0
        return self.at


class OfAClass(Held):
    def forward(self, x: Tensor) -> Tensor:
        return x + Angle(-0.5).turn(0.25)


def wrapped(x: Tensor, k: float) -> Tensor:
    k %= 3.0
    return x + k


class InAFunction(Held):
    def forward(self, x: Tensor) -> Tensor:
        return wrapped(x, -0.5)


REFUSED = [
    (OfTheAttribute, "`self.phase = self.phase % 1.0`"),
    (OfTheTensor, "`self.phases.remainder_(1.0)`"),
    (OfASlice, "`self.phases[1:] = self.phases[1:] % (x[0] - 2.0)`"),
    (OfAnItem, "`angles[1] = angles[1] % 1.0`"),
    (OfAnInt, "`k = k % (4 + 1)`"),
    (OfAnArgument, "`x.remainder_(-1.5)`"),
    (OfAClass, "`self.at = self.at % 1.0`, or `self.at.remainder_(1.0)` for a tensor that is changed in place"),
    (InAFunction, "`k = k % 3.0`"),
]


@pytest.mark.parametrize(("make", "remedy"), REFUSED)
def test_a_remainder_that_is_assigned_is_refused(make, remedy):
    x = torch.tensor([0.25, 2.0, -3.0])
    assert not torch.equal(torch.jit.script(make())(x.clone()), make()(x.clone()))  # the reason
    with pytest.raises(CreationError) as found:
        tr.serve(make(), OnTensor, "never")
    assert str(found.value).endswith(f" in TorchScript, and a float for two ints; write {remedy}")
    assert names_its_line(str(found.value), __file__)


class OfAnIntAttribute(Held):
    def forward(self, x: Tensor) -> Tensor:
        self.count %= 4
        return x + self.count


class OfAnIntItem(Held):
    def forward(self, x: Tensor) -> Tensor:
        self.counts[0] %= 4
        return x + self.counts[0]


@pytest.mark.parametrize(
    ("make", "said", "remedy"),
    [
        (OfAnIntAttribute, "Expected int but got float", "`self.count = self.count % 4`"),
        (OfAnIntItem, "Arguments for call are not valid", "`self.counts[0] = self.counts[0] % 4`"),
    ],
)
def test_what_torchscript_refuses_itself_has_the_reason(make, said, remedy):
    with pytest.raises(CreationError, match=said) as found:
        tr.serve(make(), OnTensor, "never")
    assert str(found.value).splitlines()[-1].startswith(f"also, {make.__name__}.forward (")
    assert str(found.value).endswith(f"and a float for two ints; write {remedy}")


class Divided(Held):
    def forward(self, x: Tensor) -> Tensor:
        x //= 2
        return x


class Multiplied(Held):
    def forward(self, x: Tensor) -> Tensor:
        x @= self.phases
        return x


@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (Divided, "write `a = a // b`, or `a.floor_divide_(b)` for a tensor that is changed in place; or give"),
        (Multiplied, "write `a = a @ b`; or give"),
    ],
)
def test_others_that_torchscript_refuses_have_a_remedy(make, remedy):
    with pytest.raises(CreationError) as found:
        tr.serve(make(), OnTensor, "never")
    assert f"\n\nwhat to do: {remedy}" in str(found.value)


class Written(Held):
    """Writes what the errors say."""

    def forward(self, x: Tensor) -> Tensor:
        self.phase = self.phase % 1.0
        self.count = self.count % 4
        self.counts[0] = self.counts[0] % 4
        self.phases[1:] = self.phases[1:] % (x[0] - 2.0)
        row = self.phases[:2]
        row.remainder_(-0.3)
        k: List[int] = [-7 % 4, -7 // 4]
        x.remainder_(-1.5)
        k[0] -= 9
        quotient, rest = divmod(k[0], 4)
        y = (-7 * x) % 4 + (-7 * x) // 4 + -7.5 % 2 + -7.5 // 2
        self.phases.floor_divide_(2)
        self.phase += 0.3
        return x + y + self.phases + self.phase + self.count + quotient + rest + k[1] + self.counts[0]


def test_what_is_to_be_written_is_right(owner):
    stub, local = tr.create(owner, OnTensor, Written, in_turn=True), Written()
    for x in (torch.tensor([0.25, 2.0, -3.0]), torch.tensor([-4.5, 1.0, 7.0])):
        for _ in range(3):
            torch.testing.assert_close(stub(x.clone()), local(x.clone()))
