"""What crosses as something else comes back as what it was: on a Python caller, and inside TorchScript."""

import inspect
import re
from typing import Any, Dict, List, Optional, Tuple, Union

import pytest
import torch
import torch.distributed.autograd as autograd
import torch.distributed.rpc as rpc
from torch import Tensor, nn

import torchremote as tr
from torchremote import testing
from torchremote.errors import ArgumentError, MismatchError

from .. import gallery, zoo
from ..zoo import Color, Mode, Painted, Pair


@pytest.fixture(scope="module")
def painter(owner):
    return tr.create(owner, gallery.Painter, gallery.PainterModule)


X = torch.arange(3.0)


def test_a_named_tuple_comes_back_as_itself(painter):
    painted = painter(X, Color.RED, torch.float64)
    expected = Painted(
        Pair(X.double(), 5), [Color.RED, Color.RED], {"only": (Pair(X.double(), 5), Mode.EVAL)}, None, torch.float64
    )
    assert testing.same(painted, expected)
    assert testing.same(painter.forward_async(X, Color.RED, torch.float64).wait(), expected)


def test_defaults_of_every_type_hold_and_show(painter):
    assert testing.same(painter(X), painter(X, Color.GREEN, torch.float32, device=torch.device("cpu")))
    parameters = inspect.signature(painter.forward).parameters
    assert [parameters[name].default for name in ("color", "dtype", "device")] == [
        Color.GREEN,
        torch.float32,
        torch.device("cpu"),
    ]


@pytest.mark.parametrize("value", [1, [1, 2], [], X, Color.RED, Pair(X, 7), None], ids=str)
def test_a_union_carries_each_of_its_types(painter, value):
    assert testing.same(painter.either(value), value)
    assert testing.same(painter.either_async(value).wait(), value)


def test_a_union_keeps_its_members_apart(owner):
    stub = tr.create(owner, gallery.Choosing, gallery.ChoosingModule)
    for value in ([Pair(X, 1), zoo.Untyped(X, X)], [zoo.Untyped(X, X), Pair(X, 1)], []):
        assert testing.same(stub(value), value)
    for value in (zoo.Nothing(), 1, "s", None):
        assert testing.same(stub.maybe([value]), {"only": value})


def test_a_union_has_a_default(painter):
    assert painter.either() == 1


@pytest.mark.parametrize(
    "value",
    [
        *(X, 1, 2.5, True, 1j, "s", None, torch.device("cuda:1")),
        *([X], [X, None], [1], {"a": X}, {1: [X]}, [{"a": X}], [[True]], {"a": {"b": "c"}}, [None]),
        *({"a": 1, "b": None}, {"a": None}, {1: None, 2: "s"}, {1: 2.5, 2: None}, {"a": None, "b": X}, {1: X, 2: None}),
        *((), (X, 1), (1, (2, (3, [X]))), (X,) * 8),
    ],
    ids=lambda value: str(value).replace("\n", ""),
)
def test_any_carries(painter, value):
    assert testing.same(painter.anything(value), value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Color.RED, r"Painter.anything.value: <Color.RED: 1> cannot cross inside Any; declare Color"),
        ([Color.RED], r"Painter.anything.value\[0\]: <Color.RED"),
        ({}, "an empty dict inside Any has no type"),
        ((1, []), r"Painter.anything.value\[1\]: an empty list"),
        ([1, "a"], "a list inside Any has items of one type"),
        ({"a": 1, "b": "c"}, "a dict inside Any has values of one type"),
        (b"bytes", "an object of class bytes cannot cross inside Any"),
        (torch.Generator(), "an object of class torch._C.Generator cannot cross inside Any"),
        (2**63, "9223372036854775808 cannot cross inside Any"),
        ("\ud800", "cannot cross inside Any"),
        ([(X, 1)], "what is in a value of type Any"),
        ([{"a": [X]}], "what is in a value of type Any"),
        ((((((1,),),),),), "what is in a value of type Any"),
        ((1,) * 9, "what is in a value of type Any"),
        (
            torch.jit.script(nn.Linear(1, 1)),
            "RecursiveScriptModule cannot cross inside Any",
        ),
        (nn.Linear(1, 1), "an object of class torch.nn.modules.linear.Linear cannot cross inside Any"),
        ({X: 1}, "."),
    ],
    ids=lambda value: re.sub(r"\n| at 0x\w+", "", str(value))[:40],  # an address would make each run's ids its own
)
def test_any_refuses_what_nobody_can_look_into(painter, value, message):
    with pytest.raises(ArgumentError, match=message):
        painter.anything(value)
    assert painter.anything(1) == 1


class Loose:
    def forward(self, xs: List[Any], by: Dict[str, Any]) -> int: ...


class LooseModule(nn.Module):
    def forward(self, xs: List[Any], by: Dict[str, Any]) -> int:
        return len(xs) + len(by)


def loop_of(kind):
    """A list or dict that contains itself, at once or inside a tuple."""
    if kind == "list":
        loop = []
        loop.append(loop)
    elif kind == "dict":
        loop = {}
        loop["a"] = loop
    else:
        inner = []
        loop = (1, inner)
        inner.append(loop)
    return loop


def doubled(kind, levels):
    """Containers of which each has the one before twice: 2**levels places, if nobody stops."""
    value = 1
    for _ in range(levels):
        value = {"a": value, "b": value} if kind is dict else kind((value, value))
    return value


def nested(levels):
    value = ()
    for _ in range(levels):
        value = (value,)
    return value


@pytest.mark.parametrize("kind", ["list", "dict", "tuple"])
def test_a_value_that_contains_itself_is_refused(owner, painter, kind):
    stub = tr.create(owner, Loose, LooseModule)
    for where, call in {
        r"Painter.anything.value": lambda: painter.anything(loop_of(kind)),
        r"Loose.forward.xs\[0\]": lambda: stub([loop_of(kind)], {}),
        r"Loose.forward.by\['a'\]": lambda: stub([], {"a": loop_of(kind)}),
    }.items():
        with pytest.raises(ArgumentError, match=rf"^{where}\[.*: a (list|dict|tuple) that contains itself cannot"):
            call()
    loop = loop_of("list")
    with pytest.raises(ArgumentError, match=r"^Loose.forward.xs\[0\]\[0\]: a list that contains itself cannot"):
        stub(loop, {})
    assert stub([1], {"a": X}) == 2


@pytest.mark.parametrize(
    "value",
    [nested(7), nested(900), nested(100_000), *(doubled(kind, 40) for kind in (list, tuple, dict))],
    ids=["7", "900", "100000", "lists", "tuples", "dicts"],
)
def test_a_value_that_is_too_deep_is_refused_at_once(painter, value):
    with pytest.raises(ArgumentError, match=r"^Painter.anything.value\[.*: a \w+ inside 6 others cannot"):
        painter.anything(value)


@pytest.mark.parametrize(
    "value",
    [{(1, 2): 3}, {None: 1}, {1: 1, "a": 2}, {"a": 1, 1: 2}, {2.5: 1}, {2**63: 1}, {"\ud800": 1}, {True: 1}, {X: 1}],
    ids=str,
)
def test_keys_that_any_cannot_have_are_refused(painter, value):
    for where, inside in {"": value, r"\[1\]\['a'\]": (1, {"a": value})}.items():
        with pytest.raises(ArgumentError, match=rf"^Painter.anything.value{where}, its key"):
            painter.anything(inside)


def test_dtypes_and_enums_in_containers(painter):
    painted = painter(X)
    colors, dtypes = {"first": Color.RED, "last": Color.GREEN}, {torch.int8: 1j, torch.float32: 0j}
    assert painter.count([painted, painted], colors, dtypes) == (12, Color.GREEN)
    assert painter.dtype_of(X.to(torch.bfloat16)) is torch.bfloat16


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda stub: stub(X, 1),
            r"^Painter.forward.color: 1 is no tests.zoo.Color; .* members, RED, GREEN$",
        ),
        (lambda stub: stub(X, Mode.EVAL), r"^Painter.forward.color: <Mode.EVAL: 'eval'> is no tests.zoo.Color; "),
        (
            lambda stub: stub(X, dtype="float32"),
            r"^Painter.forward.dtype: 'float32' is no dtype; give a value of type dtype, or declare another type$",
        ),
        (
            lambda stub: stub(X, device="cpu"),
            r"^Painter.forward.device: 'cpu' is no device; give a value of type device, or ",
        ),
        (
            lambda stub: stub(None),
            r"^Painter.forward.x: None is no Tensor; declare Optional",
        ),
        (lambda stub: stub.either("a"), r"^Painter.either.value: 'a' is no Union\["),
        (
            lambda stub: stub.count([(1, 2)], {}, {}),
            r"^Painter.count.painted\[0\]: an object of class tuple is no .*Painted; 5 items are wanted, and 2 there$",
        ),
        (lambda stub: stub.count([], {"a": Mode.EVAL}, {}), r"^Painter.count.by_color\['a'\]: <Mode.EVAL"),
        (
            lambda stub: stub.count([], {}, {1: 1j}),
            r"^Painter.count.by_dtype, its key 1: 1 is no dtype; give a value of type dtype, or ",
        ),
        (lambda stub: stub(), r"^Painter.forward: missing a required argument: 'x'; it is "),
        (lambda stub: stub.either_async("a"), r"^Painter.either.value: 'a'"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(painter, call, message):
    with pytest.raises(ArgumentError, match=message):
        call(painter)


class Gallery(nn.Module):
    painter: gallery.Painter

    def __init__(self, painter):
        super().__init__()
        self.painter = painter

    def forward(
        self, x: Tensor, color: Color
    ) -> Tuple[Painted, Color, Optional[Union[int, List[int], Tensor, Color, Pair]]]:
        painted = self.painter.forward(x, color)
        _, last = self.painter.count([painted], {"last": painted.colors[0]}, {painted.dtype: 1j})
        nothing: List[int] = []
        assert isinstance(self.painter.either(nothing), List[int])
        assert self.painter.either(None) is None
        assert isinstance(self.painter.either(), int)
        assert isinstance(self.painter.anything((1, [x])), Tuple[int, Any])
        assert self.painter.dtype_of(x) == x.dtype
        if painted.by_name["only"][1] == zoo.Mode.TRAIN:
            return painted, last, self.painter.either(painted.pair)
        return painted, last, self.painter.either(last)


class AsyncGallery(nn.Module):
    painter: tr.remote_interface(gallery.Painter)

    def __init__(self, painter):
        super().__init__()
        self.painter = painter

    def forward(self, x: Tensor) -> Tuple[Painted, Color]:
        first = self.painter.forward_async(x, Color.RED)
        second = self.painter.forward_async(x)
        return first.wait(), second.wait().colors[0]


def as_torch_shows(value):
    """NamedTuples as tuples and dtypes as integers: torch converts what TorchScript returns."""
    if isinstance(value, dict):
        return {key: as_torch_shows(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_torch_shows(part) for part in value]
    return 6 if value is torch.float32 else value


def test_inside_torchscript(painter):
    gallery = torch.jit.script(Gallery(painter))
    for _ in range(3):  # the executor optimises twice
        painted, last, pair = gallery(X, Color.GREEN)
        assert testing.same(as_torch_shows(painted), as_torch_shows(painter(X, Color.GREEN)))
        assert last is Color.GREEN
        assert testing.same(as_torch_shows(pair), [X, 5])
    assert gallery(X, Color.RED)[2] is Color.RED


def test_inside_torchscript_without_waiting(painter):
    gallery = torch.jit.script(AsyncGallery(painter))
    for _ in range(3):
        painted, color = gallery(X)
        assert testing.same(as_torch_shows(painted), as_torch_shows(painter(X, Color.RED)))
        assert color is Color.GREEN


def test_references_cross_and_their_values_stay(owner):
    stub = tr.create(owner, gallery.References, gallery.ReferencesModule)
    here, there = rpc.RRef(X), rpc.remote(owner, torch.add, (X, 1))
    total, back = stub(here, {"a": [there]})
    assert torch.equal(total, X + X + 1)
    assert torch.equal(back.to_here(), X)
    with pytest.raises(
        ArgumentError, match=r"References.forward.refs\['a'\]\[0\]: an object of class .*Tensor is no RRef"
    ):
        stub(here, {"a": [X]})


def test_an_enum_out_of_an_archive_is_another_type_and_said_to_be(owner):
    with pytest.raises(
        MismatchError, match=r"Tinting.forward.color: .*came with an archive; send the class and its args"
    ):
        tr.create(owner, gallery.Tinting, torch.jit.script(gallery.TintingModule()))
    assert tr.create(owner, gallery.Tinting, gallery.TintingModule)(Color.GREEN) is Color.GREEN


def test_gradients_go_through_named_tuples_unions_and_any(owner):
    stub = tr.create(owner, gallery.Scaling, gallery.ScalingModule)
    x, y, z = (torch.full((2,), float(n), requires_grad=True) for n in (2, 3, 5))
    with autograd.context() as context:
        pair, held = stub(Pair(x), y, [z])
        assert testing.same(pair.a.detach(), torch.full((2,), 6.0))
        autograd.backward(context, [(pair.a + held[0]).sum()])
        found = autograd.get_gradients(context)
    assert [found[leaf].tolist() for leaf in (x, y, z)] == [[18.0, 18.0], [12.0, 12.0], [6.0, 6.0]]
