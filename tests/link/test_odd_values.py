"""Values that a conversion would change, or that an error could not show: refused with their place, or unchanged."""

import enum
import math
from fractions import Fraction
from typing import Any, Dict, List, NamedTuple, Union

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote import testing
from torchremote.errors import ArgumentError

from .test_values import freed


class Keyed:
    def by_tensor(self, d: Dict[Tensor, int]) -> int: ...
    def by_int(self, d: Dict[int, List[str]]) -> int: ...
    def by_float(self, d: Dict[float, str]) -> int: ...


class KeyedModule(nn.Module):
    @torch.jit.export
    def by_tensor(self, d: Dict[Tensor, int]) -> int:
        return len(d)

    @torch.jit.export
    def by_int(self, d: Dict[int, List[str]]) -> int:
        return len(d)

    @torch.jit.export
    def by_float(self, d: Dict[float, str]) -> int:
        return len(d)


class Secretive(float):
    def __repr__(self):
        raise RuntimeError("no text")


def test_keys_are_shown_only_in_errors_and_never_read(owner):
    stub = tr.create(owner, Keyed, KeyedModule)
    for key in (freed(), torch.zeros(2, dtype=torch.uint1)):
        with pytest.raises(ArgumentError, match="^Keyed.by_tensor.d: a tensor "):
            stub.by_tensor({key: 1})
    assert stub.by_float({Secretive(0.5): "a"}) == 1
    with pytest.raises(ArgumentError, match=r"^Keyed.by_float.d\[an object of class .*Secretive\]: 1 is no str"):
        stub.by_float({Secretive(0.5): 1})
    with pytest.raises(ArgumentError, match=r"^Keyed.by_int.d\[3\]\[1\]: 2 is no str"):
        stub.by_int({3: ["a", 2]})


def test_keys_that_become_one_are_refused(owner):
    stub = tr.create(owner, Keyed, KeyedModule)
    with pytest.raises(
        ArgumentError, match="^Keyed.by_int.d, its key an object of class torch.Tensor: another key is "
    ):
        stub.by_int({key: [] for key in torch.tensor([1, 1, 2])})
    with pytest.raises(ArgumentError, match="^Keyed.by_float.d, its key 0.1: another key is the same float"):
        stub.by_float({Fraction(1, 10): "a", 0.1: "b"})
    with pytest.raises(ArgumentError, match=r"^Keyed.by_float_many.calls\[1\].d, its key 0.1"):
        stub.by_float_many([({0.1: "a"},), ({Fraction(1, 10): "a", 0.1: "b"},)])
    assert stub.by_float({Fraction(1, 10): "a", 0.2: "b"}) == 2


class Lists:
    def forward(self, xs: List[int], i: int) -> int: ...


class ListsModule(nn.Module):
    def forward(self, xs: List[int], i: int) -> int:
        return i


@pytest.mark.parametrize("sent", [10**5000, -(10**5000)], ids=["positive", "negative"])
def test_an_int_too_long_to_be_written_is_refused(owner, sent):
    stub = tr.create(owner, Lists, ListsModule)
    long = "an object of class int is no int of 64 bits"
    for call in (stub, stub.forward_async):
        with pytest.raises(ArgumentError, match=f"^Lists.forward.i: {long}"):
            call(**{"xs": [], "i": sent})
    with pytest.raises(ArgumentError, match=rf"^Lists.forward_many.calls\[1\].i: {long}"):
        stub.forward_many([([], 1), {"xs": [], "i": sent}])


class ClosedNumbers:
    def either(self, x: Union[int, float]) -> Union[int, float]: ...
    def any_of(self, x: Union[int, float, bool]) -> Union[int, float, bool]: ...


class ClosedNumbersModule(nn.Module):
    @torch.jit.export
    def either(self, x: Union[int, float]) -> Union[int, float]:
        return x

    @torch.jit.export
    def any_of(self, x: Union[int, float, bool]) -> Union[int, float, bool]:
        return x


def test_numbers_of_numpy_and_torch_in_a_union(owner):
    stub = tr.create(owner, ClosedNumbers, ClosedNumbersModule)
    for value, as_ in ((torch.tensor(2.5), 2.5), (np.array(2.5), 2.5), (torch.tensor(2), 2), (np.int64(2), 2)):
        assert testing.same(stub.either(value), as_)
    assert stub.any_of(np.True_) is True
    for value in (2**64, np.longdouble("1e4000")):
        with pytest.raises(ArgumentError, match="^ClosedNumbers.either.x: "):
            stub.either(value)


class Complexes:
    def forward(self, xs: List[complex]) -> List[complex]: ...


class ComplexesModule(nn.Module):
    def forward(self, xs: List[complex]) -> List[complex]:
        return xs


def test_a_complex_number_may_be_infinite_in_one_part_and_nan_in_the_other(owner):
    stub = tr.create(owner, Complexes, ComplexesModule)
    odd = [complex(math.nan, -math.inf), complex(math.inf, math.nan)]
    for call in (stub, lambda xs: stub.forward_many([(xs,)])[0], lambda xs: stub.forward_remote(xs).to_here()):
        assert testing.same(call(odd), odd)
        assert testing.same(call(list(map(np.complex128, odd))), odd)
    with pytest.raises(ArgumentError, match=r"^Complexes.forward.xs\[0\]: "):
        stub([np.clongdouble(complex(0, math.nan)) + np.longdouble("1e4000")])


class Twice(NamedTuple("_Twice", [("a", int), ("b", int)])):
    def __new__(cls, a, b):
        return super().__new__(cls, a * 2, b)


class Single(NamedTuple("_Single", [("a", int), ("b", int)])):
    def __new__(cls, a):
        return super().__new__(cls, a, 7)


class OwnNew:
    def twice(self, x: Twice) -> Twice: ...
    def single(self, x: Single) -> Single: ...


class OwnNewModule(nn.Module):
    @torch.jit.export
    def twice(self, x: Twice) -> Twice:
        return x

    @torch.jit.export
    def single(self, x: Single) -> Single:
        return x


def test_a_named_tuple_with_a_new_of_its_own_stays_as_it_is(owner):
    stub = tr.create(owner, OwnNew, OwnNewModule)
    assert tuple(stub.twice(Twice(1, 1))) == (2, 1)
    assert type(stub.single(Single(1))) is Single
    assert stub.single(Single(1)) == Single(1)


class Loose:
    def forward(self, x: Any, y: Any = None) -> Any: ...


class LooseModule(nn.Module):
    def forward(self, x: Any, y: Any) -> Any:
        return x


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ([[1], [2.0]], ""),
        ([{"a": 1}, {"a": None}], ""),
        ((1, {"k": [(1,), (1.0,)]}), r"\[1\]\['k'\]"),
        ({"a": [1], "b": [2.0]}, ""),
    ],
)
def test_containers_in_any_that_differ_inside_are_refused_with_their_place(owner, value, place):
    stub = tr.create(owner, Loose, LooseModule)
    with pytest.raises(ArgumentError, match=f"^Loose.forward.y{place}: a (list|dict) inside Any has "):
        stub(1, value)


def test_containers_in_any_may_mix_what_torchscript_takes_for_one_type(owner):
    stub, x = tr.create(owner, Loose, LooseModule), torch.ones(1)
    assert len(stub([x, nn.Parameter(x)])) == 2
    assert testing.same(stub(([1], [2.0])), ([1], [2.0]))


class Mean(str, enum.Enum):
    MEAN = "mean"


class Mode(nn.Module):
    def forward(self, text: str, other: str) -> str:
        return text + other


class WithMode:
    def forward(self, text: str = Mean.MEAN, *, other: str = "") -> str: ...


def test_the_default_of_a_str_may_be_a_member_of_an_enum(owner):
    stub = tr.create(owner, WithMode, Mode)
    assert stub() == stub(Mean.MEAN) == stub.forward_many([()])[0] == "mean"


class Selves:
    def minus(this, self: int, self_: int) -> int: ...


class SelvesModule(nn.Module):
    @torch.jit.export
    def minus(this, self: int, self_: int) -> int:
        return self - self_


def test_arguments_may_have_every_name_of_self(owner):
    stub = tr.create(owner, Selves, SelvesModule)
    assert stub.minus(3, self_=1) == stub.minus(self=3, self_=1) == 2


class Shade(enum.Enum):
    DARK = 1


class Shading:
    def one(self, shade: Shade) -> int: ...
    def either(self, shade: Union[Shade, int]) -> int: ...


class ShadingModule(nn.Module):
    @torch.jit.export
    def one(self, shade: Shade) -> int:
        return 1

    @torch.jit.export
    def either(self, shade: Union[Shade, int]) -> int:
        return 2


def test_a_member_of_a_class_that_was_defined_again_is_refused_with_the_reason(owner):
    stub = tr.create(owner, Shading, ShadingModule)
    again = enum.Enum("Shade", {"DARK": 1}, module=__name__)
    for call in (stub.one, stub.either):
        with pytest.raises(ArgumentError, match=r"Shade.DARK: 1> is no .*the class was defined again"):
            call(again.DARK)
