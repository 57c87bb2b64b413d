"""What crosses as something else comes back as what it was: on a Python caller, and inside TorchScript."""

import inspect
import math
from typing import Any, List, Optional, Tuple, Union

import pytest
import torch
import torch.distributed.autograd as autograd
import torch.distributed.rpc as rpc
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

import torchremote as tr
from torchremote import testing
from torchremote.errors import ArgumentError, MismatchError, RemoteError

from . import gallery, zoo
from .zoo import Color, Mode, Painted, Pair


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
        (b"bytes", "a bytes cannot cross inside Any"),
        (torch.Generator(), "a Generator cannot cross inside Any"),
        (2**63, "a int cannot cross inside Any"),
        ("\ud800", "a str cannot cross inside Any"),
        ([(X, 1)], "what is in a value of type Any"),
        ([{"a": [X]}], "what is in a value of type Any"),
        ((((((1,),),),),), "what is in a value of type Any"),
        ((1,) * 9, "what is in a value of type Any"),
        (torch.jit.script(nn.Linear(1, 1)), "a RecursiveScriptModule cannot cross inside Any"),
        (nn.Linear(1, 1), "a Linear cannot cross inside Any"),
        ({X: 1}, "."),
    ],
    ids=lambda value: str(value).replace("\n", "")[:40],
)
def test_any_refuses_what_nobody_can_look_into(painter, value, message):
    with pytest.raises(ArgumentError, match=message):
        painter.anything(value)
    assert painter.anything(1) == 1


def test_dtypes_and_enums_in_containers(painter):
    painted = painter(X)
    colors, dtypes = {"first": Color.RED, "last": Color.GREEN}, {torch.int8: 1j, torch.float32: 0j}
    assert painter.count([painted, painted], colors, dtypes) == (12, Color.GREEN)
    assert painter.dtype_of(X.to(torch.bfloat16)) is torch.bfloat16


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda stub: stub(X, 1), r"^Painter.forward.color: 1 is no tests.zoo.Color$"),
        (lambda stub: stub(X, Mode.EVAL), r"^Painter.forward.color: <Mode.EVAL: 'eval'> is no tests.zoo.Color$"),
        (lambda stub: stub(X, dtype="float32"), r"^Painter.forward.dtype: 'float32' is no dtype$"),
        (lambda stub: stub(X, device="cpu"), r"^Painter.forward.device: 'cpu' is no device$"),
        (lambda stub: stub(None), r"^Painter.forward.x: None is no Tensor$"),
        (lambda stub: stub.either("a"), r"^Painter.either.value: 'a' is no Union\["),
        (lambda stub: stub.count([(1, 2)], {}, {}), r"^Painter.count.painted\[0\]: a tuple is no tests.zoo.Painted$"),
        (lambda stub: stub.count([], {"a": Mode.EVAL}, {}), r"^Painter.count.by_color\['a'\]: <Mode.EVAL"),
        (lambda stub: stub.count([], {}, {1: 1j}), r"^Painter.count.a key of by_dtype|a key of Painter.count.by_dtype"),
        (lambda stub: stub(), r"^Painter.forward: missing a required argument: 'x'$"),
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
    with pytest.raises(ArgumentError, match=r"References.forward.refs\['a'\]\[0\]: a Tensor is no RRef"):
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


# -- values that would hurt


def fake():
    with FakeTensorMode():
        return torch.ones(2)


HURTING = {
    "nested": (lambda: torch.nested.nested_tensor([X, X[:1]]), "a nested tensor cannot cross"),
    "jagged": (lambda: torch.nested.nested_tensor([X, X[:1]], layout=torch.jagged), "a nested tensor cannot cross"),
    "meta": (lambda: X.to("meta"), "a meta tensor has no values"),
    "mkldnn": (lambda: X.to_mkldnn(), "a tensor in a layout other than"),
    "csr": (lambda: torch.eye(2).to_sparse_csr(), "a tensor in a layout other than"),
    "fake": (fake, "a tensor without storage of its own"),
}


@pytest.mark.parametrize(("make", "message"), HURTING.values(), ids=HURTING)
@pytest.mark.filterwarnings("ignore:.*(Sparse CSR|prototype)")
def test_a_tensor_that_would_hurt_is_refused_wherever_it_is(owner, painter, make, message):
    hurting, encoder = make(), tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    echo = tr.create(owner, zoo.Deep, zoo.DeepEcho)
    calls = {
        "Encoder.forward.x": lambda: encoder(hurting),
        "Encoder.topk.x": lambda: encoder.topk_async(hurting),
        "Painter.either.value": lambda: painter.either(Pair(hurting)),
        "Painter.anything.value": lambda: painter.anything((1, {"a": [hurting]})),
        "Deep.forward.a": lambda: echo([{"a": None, "b": (hurting, 1)}]),
        "Deep.forward.b": lambda: echo([], [X, hurting]),
    }
    for where, call in calls.items():
        with pytest.raises(ArgumentError, match=f"^{where}: {message}"):
            call()
    with pytest.raises(torch.jit.Error, match=f"cannot send Painter.forward.x: {message}"):
        torch.jit.script(Gallery(painter))(hurting, Color.RED)
    assert testing.same(echo([], [X])[1], {1: [X]})  # both go on


@pytest.mark.parametrize("transform", [torch.func.vmap, torch.func.grad], ids=["vmap", "grad"])
def test_a_transforms_tensors_are_refused(owner, painter, transform):
    encoder = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    for call in (encoder, encoder.forward_async, painter, painter.forward_async):
        with pytest.raises(ArgumentError, match=r"called under a torch.func transform"):
            transform(lambda x, call=call: call(x))(torch.ones(2, 8))
    assert encoder(torch.ones(2, 8)).shape == (2, 8)


def test_a_result_that_would_hurt_is_an_error_and_the_owner_lives(owner):
    stub = tr.create(owner, gallery.Unsendable, gallery.UnsendableModule)
    for name, message in (
        ("nested", "a nested tensor cannot cross"),
        ("meta", "a meta tensor has no values"),
        ("inside_any", "a nested tensor cannot cross"),
    ):
        for call in (getattr(stub, name), lambda parts, name=name: getattr(stub, f"{name}_async")(parts).wait()):
            with pytest.raises(RemoteError, match=rf"^Unsendable.{name} on owner: Unsendable.{name}.return: {message}"):
                call([X, X[:1]])


def test_an_empty_view_beyond_its_storage_crosses(owner):
    """torch alone: the process that receives it aborts."""
    stub = tr.create(owner, gallery.Unsendable, gallery.UnsendableModule)
    (back,) = stub.empty_view(torch.ones(0, 4))
    assert back.shape == (0, 3)
    assert stub.empty_view(torch.ones(0, 4)[:, 1:])[0].shape == (0, 2)


@pytest.mark.parametrize(
    "value",
    [
        *(torch.eye(2).to_sparse(), X.to(torch.float8_e4m3fn), X.to(torch.uint16), nn.Parameter(X)),
        *(torch.tensor([1j]).conj(), torch.tensor([1j]).conj().imag),
        *(X.expand(2, 3), X[1:], X.reshape(3, 1).t(), torch.zeros(2, 0)),
    ],
    ids=str,
)
def test_unusual_tensors_cross(painter, value):
    back = painter.either(value)
    assert (back.dtype, back.shape, back.layout) == (value.dtype, value.shape, value.layout)
    dense, sent = back.to_dense() if back.is_sparse else back, value.to_dense() if value.is_sparse else value
    assert torch.equal(dense.to(torch.complex64), sent.detach().to(torch.complex64))


class Subclass(Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        raise AssertionError("a call asks no subclass")


def test_a_subclass_is_sent_as_the_tensor_that_it_is(owner, painter):
    encoder = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    sent = torch.ones(1, 8).as_subclass(Subclass)
    for back in (encoder(sent), encoder.forward_async(sent).wait()):
        assert torch.equal(back, zoo.LinearEncoder.output(0, torch.ones(1, 8)))
    assert type(painter.either(sent)) is Tensor


def test_odd_scalars_cross_exactly(painter):
    for value in (math.inf, -0.0, complex(-0.0, math.nan), 2**63 - 1, -(2**63), '"\\\n\0é\U0001f600'):
        assert testing.same(painter.anything(value), value)
