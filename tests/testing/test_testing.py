"""The strategies and the check that users have: they reach every kind of type, and find what is wrong."""

from typing import List, Tuple, Union

import pytest
import torch
import torch.distributed.rpc as rpc
from hypothesis import find, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from torchremote import testing
from torchremote.errors import MismatchError
from torchremote.jit import Interface
from torchremote.jit.read import types
from torchremote.jit.read.model import Method
from torchremote.jit.script.classes import find_classes
from torchremote.link.values import PythonPacker
from torchremote.testing.check import same

from .. import zoo

KINDS = [
    *(types.TensorType, types.ScalarType, types.AnyType, types.OptionalType, types.UnionType, types.ListType),
    *(types.DictType, types.TupleType, types.EnumType, types.NamedTupleType),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_types_of_every_kind_are_found(kind):
    find(testing.types(zoo.NAMED), lambda type: any(isinstance(part, kind) for part in types.walk(type)))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_values_are_of_their_type(data):
    type = data.draw(testing.types(zoo.NAMED))
    classes = find_classes(Interface("Values", (Method("value", (), type),)), "tests")
    value = data.draw(testing.values(type, classes=classes))
    packer = PythonPacker(classes)
    assert testing.same(packer.unpack(packer.pack(value, type, "value"), type), value)


@pytest.mark.parametrize(
    "wanted",
    [
        lambda x: x.numel() == 0,
        lambda x: x.dim() == 3,
        lambda x: not x.is_contiguous(),
        lambda x: x.storage_offset() > 0,
        lambda x: 0 in x.stride() and x.numel() > 0,
        lambda x: x.dtype == torch.bfloat16,
        lambda x: x.dtype == torch.bool,
    ],
)
def test_tensors_of_every_kind_are_found(wanted):
    find(testing.tensors(), wanted)


@given(testing.values(List[Union[int, str]]))
def test_values_take_an_annotation(value):
    assert all(isinstance(item, (int, str)) for item in value)


@given(testing.calls(zoo.Encoder, "topk"))
def test_calls_fit_their_method(call):
    args, kwargs = call
    assert len(args) + len(kwargs) in (1, 2)
    assert len(args) < 2  # k is keyword-only


def test_calls_of_no_method_are_refused():
    with pytest.raises(MismatchError, match="Encoder has no method absent"):
        testing.calls(zoo.Encoder, "absent")


@given(testing.signatures(named=zoo.NAMED))
def test_signatures_obey_pythons_rules(method):
    plain = [argument for argument in method.arguments if not argument.keyword_only]
    assert [argument.has_default for argument in plain] == sorted(argument.has_default for argument in plain)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        ([1], (1,)),
        (zoo.Pair(torch.ones(1), 1), (torch.ones(1), 1)),
        (torch.ones(2), torch.ones(2, dtype=torch.float64)),
        (torch.ones(2), torch.ones(2, 1)),
        ({"a": 1}, {"b": 1}),
        ({"a": 1}, {}),
        (torch.ones(2), torch.ones(2).to_sparse()),
    ],
    ids=str,
)
def test_what_differs_is_not_the_same(left, right):
    assert not same(left, right)
    assert same(left, left)


@pytest.mark.parametrize("dtype", [torch.bits8, torch.bits16, torch.uint1, torch.int4], ids=str)
def test_tensors_that_only_have_bits_are_compared(dtype):
    whole = torch.int16 if dtype == torch.bits16 else torch.uint8
    one, other = (torch.tensor(values, dtype=whole).view(dtype) for values in ([1, 2], [1, 3]))
    assert testing.same(one, one.clone() if dtype.itemsize == 2 else one)
    assert not testing.same(one, other)


class Negating:
    def forward(self, x: int, y: List[float]) -> int: ...
    def flip(self, x: Tensor) -> Tensor: ...


class Honest(nn.Module):
    def forward(self, x: int, y: List[float]) -> int:
        return x ^ len(y)

    def flip(self, x: Tensor) -> Tensor:
        if x.dim() > 2:
            raise ValueError("too many dimensions")
        return x.t()


class Different(Honest):
    def forward(self, x: int, y: List[float]) -> int:
        return x if torch.jit.is_scripting() and x > 1000 else x ^ len(y)


def test_an_honest_module_passes(owner):
    assert testing.check_interface(Negating, Honest(), max_examples=10) >= 60


class InPlace(Honest):
    def flip(self, x: Tensor) -> Tensor:
        return x.bitwise_not_() if x.dtype == torch.bool else x


def test_a_module_may_change_its_arguments(owner):
    assert testing.check_interface(Negating, InPlace(), max_examples=10)


def test_arguments_may_be_given(owner):
    class Counting:
        def forward(self, x: Tensor, rounds: int) -> Tensor: ...

    given = {"forward.x": testing.tensors(dtype=torch.float32, shape=(2, 3)), "forward.rounds": st.integers(0, 4)}
    assert testing.check_interface(Counting, zoo.SlowLoop(), arguments=given, max_examples=5) == 45
    with pytest.raises(MismatchError, match="no argument forward.y; there are forward.rounds, forward.x"):
        testing.check_interface(Counting, zoo.SlowLoop(), arguments={"forward.y": st.none()})


def test_a_tuple_of_a_class_of_torchs_own_is_a_tuple(owner):
    class Largest:
        def topk(self, x: Tensor, k: int = 2) -> Tuple[Tensor, Tensor]: ...

    given = {"topk.x": testing.tensors(dtype=torch.float32, shape=(2, 8)), "topk.k": st.integers(0, 8)}
    assert testing.check_interface(Largest, zoo.LinearEncoder(), arguments=given, max_examples=5) == 45


class Raising(Honest):
    def flip(self, x: Tensor) -> Tensor:
        raise ValueError("always")


def test_a_method_that_always_raises_is_not_taken_for_compared(owner):
    with pytest.raises(AssertionError, match="Negating.flip: nothing to compare, since every call raised ValueError"):
        testing.check_interface(Negating, Raising(), max_examples=5)


def test_references_can_be_drawn(owner):
    assert isinstance(find(testing.values(rpc.RRef[Tensor]), bool), rpc.RRef)


def test_a_difference_is_found_and_made_small(owner):
    with pytest.raises(AssertionError, match=r"Negating.forward\(.*1001.*here 1000, through the stub 1001"):
        testing.check_interface(Negating, Different(), max_examples=100)
