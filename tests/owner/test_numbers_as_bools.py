"""`or` and `and` of numbers, of which TorchScript makes a bool, are refused where their value is used."""

from typing import Any, Optional, Union

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import CreationError

from .places import names_its_line


class OnTensor:
    def forward(self, x: Tensor) -> Tensor: ...


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.k, self.scale, self.on = 2, 0.5, True


class Argument(Counting):
    def forward(self, x: Tensor) -> Tensor:
        return self.top(x, 0)

    def top(self, x: Tensor, k: int) -> Tensor:
        return x.topk(k or self.k)[0]


class Assigned(Counting):
    def forward(self, x: Tensor) -> Tensor:
        k = x.dim() - 1
        k = k or self.k
        return x.topk(k)[0]


class Factor(Counting):
    def forward(self, x: Tensor) -> Tensor:
        return x * (self.on and self.scale)


class Size(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (len(x) or 1)


class Several(Counting):
    def forward(self, x: Tensor) -> Tensor:
        return x * (0 or self.k or 3)


class OfAPair(Counting):
    def forward(self, x: Tensor) -> Tensor:
        (a, b), n = (self.k, 3), x.dim()
        return x.topk(a or b)[0] * n


class Item(Counting):
    def __init__(self):
        super().__init__()
        self.ks = [(2, 0.5)]

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.ks[0][1] or 1)


class Kept(Counting):
    def __init__(self):
        super().__init__()
        self.ks = [2, 3]

    def forward(self, x: Tensor) -> Tensor:
        for scale, k in enumerate(self.ks):
            x = x * (k or scale)
        return x


class MaybeNone(Counting):
    def forward(self, x: Tensor) -> Tensor:
        return x * (self.of(None) + self.of(0) + self.of(5))

    def of(self, k: Optional[int]) -> int:
        return k or self.k


class MaybeNoneAndMore(Counting):
    def forward(self, x: Tensor) -> Tensor:
        some, other = self.of(None), self.of(0)
        return x if some is not None or other is None else x + other

    def of(self, k: "int | None") -> Optional[int]:
        return k and self.k


class KeptMaybeNone(Counting):
    limit: Optional[int]

    def __init__(self, limit=None):
        super().__init__()
        self.limit = limit

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.limit or self.k)


@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (MaybeNone, "k if k is not None and k else self.k"),
        (MaybeNoneAndMore, "self.k if k is not None and k else k"),
        (
            KeptMaybeNone,
            "value = self.limit` before, and `value if value is not None and value else self.k",
        ),
    ],
)
def test_the_remedy_for_what_may_be_none_is_none_that_torchscript_refuses(make, remedy):
    with pytest.raises(CreationError) as found:
        tr.serve(make(), OnTensor, "never")
    assert str(found.value).endswith(f"not one of the numbers; write `{remedy}`")


class NoneRemedied(KeptMaybeNone):
    """Has what these are told to write."""

    def forward(self, x: Tensor) -> Tensor:
        value = self.limit
        x = x * (value if value is not None and value else self.k)
        return x * (self.of(None) + self.of(0) + self.of(5)) + (0 if self.both(None) is None else 1)

    def of(self, k: Optional[int]) -> int:
        return k if k is not None and k else self.k

    def both(self, k: Optional[int]) -> Optional[int]:
        return self.k if k is not None and k else k


@pytest.mark.parametrize("limit", [None, 0, 3])
def test_the_remedy_for_what_may_be_none_is_right(owner, limit):
    x = torch.tensor([1.0, 2.0, 3.0])
    assert torch.equal(tr.create(owner, OnTensor, NoneRemedied, args=(limit,))(x), x * (limit or 2) * 9)


REFUSED = {
    OfAPair: "a if a else b",
    Item: "self.ks[0][1] if self.ks[0][1] else 1",
    Kept: "k if k else scale",
    Argument: "k if k else self.k",
    Assigned: "k if k else self.k",
    Factor: "self.scale if self.on else 0",
    Size: "value = len(x)` before, and `value if value else 1",
    Several: "... if ... else ...",
}


@pytest.mark.parametrize(("make", "remedy"), REFUSED.items(), ids=lambda one: getattr(one, "__name__", ""))
def test_a_number_of_which_a_bool_would_be_made_is_refused(make, remedy):
    x = torch.tensor([1.0, 2.0, 3.0])
    assert not are_same(torch.jit.script(make())(x), make()(x))  # the reason
    with pytest.raises(CreationError) as found:
        tr.serve(make(), OnTensor, "never")
    assert str(found.value).endswith(f"is True or False in TorchScript, and not one of the numbers; write `{remedy}`")
    assert names_its_line(str(found.value), __file__)


def are_same(one, other):
    return one.shape == other.shape and torch.equal(one, other)


class Right(Counting):
    """Uses numbers as conditions, and bools as values."""

    def forward(self, x: Tensor) -> Tensor:
        n = x.size(0)
        if n or self.k:
            x = x + 1
        while n and self.on:
            n -= 1
        assert self.k or n
        some = self.on or x.dim() == 2
        y = x if n or (self.k and self.scale) else -x
        return y * (1 if some else 2) if not (n and self.k) or bool(self.k or n) else y


def test_conditions_and_bools_are_hosted_and_right(owner):
    x = torch.tensor([1.0, 2.0, 3.0])
    stub = tr.create(owner, OnTensor, Right)
    for _ in range(3):
        assert torch.equal(stub(x), Right()(x))


class GivesAny:
    def forward(self, x: Tensor) -> Any: ...


class EitherTensor(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return x[0] or x[1]


class EitherText(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return self.either("")

    def either(self, word: str) -> Any:
        return word or "none"


class AsInt(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return int(x[1] and x[2])


class Passed(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return self.taken(x[0] or x[1])

    def taken(self, one: Union[Tensor, bool]) -> Tensor:
        return one if isinstance(one, Tensor) else torch.zeros(1)


@pytest.mark.parametrize("make", [EitherTensor, EitherText, AsInt, Passed])
def test_other_values_are_refused_where_torchscript_takes_a_bool(make):
    x = torch.tensor([0.0, 2.0, 3.0])
    assert repr(torch.jit.script(make())(x)) != repr(make()(x))  # the reason
    with pytest.raises(CreationError, match="True or False in TorchScript, and not one of the values") as found:
        tr.serve(make(), GivesAny, "never")
    assert names_its_line(str(found.value).replace("'", '"'), __file__)


class Truth(nn.Module):
    def forward(self, x: Tensor) -> Any:
        some = bool(x.any()) or x.dim() > 1
        both = x[0] and x[1]
        return some and x.dim() == 1 and not both


def test_conditions_as_any_are_right(owner):
    x = torch.tensor([0.0, 2.0, 3.0])
    assert tr.create(owner, GivesAny, Truth)(x) is Truth()(x) is True
