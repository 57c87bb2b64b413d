"""Values that would hurt, or do not fit: refused with their place before they are sent, and both processes go on."""

import enum
import gc
import io
import math
import warnings
import weakref
from decimal import Decimal
from fractions import Fraction
from typing import Any, Dict, List, Optional, Tuple, Union

import numpy as np
import pytest
import torch
import torch.distributed.rpc as rpc
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils.flop_counter import FlopCounterMode

import torchremote as tr
from torchremote import testing
from torchremote.errors import ArgumentError, RemoteError
from torchremote.link.failures import FAILURES

from .. import gallery, zoo
from ..zoo import Color, Pair

X = torch.arange(3.0)


@pytest.fixture(scope="module")
def painter(owner):
    return tr.create(owner, gallery.Painter, gallery.PainterModule)


class Calling(nn.Module):
    """Calls from inside TorchScript."""

    painter: gallery.Painter

    def __init__(self, painter):
        super().__init__()
        self.painter = painter

    def forward(self, x: Tensor) -> Color:
        return self.painter.forward(x).colors[0]


def fake():
    with FakeTensorMode():
        return torch.ones(2)


def two_tensors():
    return TwoTensor(torch.ones(2), torch.ones(2))


def freed():
    tensor = torch.ones(3)
    tensor.untyped_storage().resize_(0)  # as FSDP does
    return tensor


def leaked(transform, *args):
    """Returns the tensor that a transform of torch.func made, which has ended."""
    seen = []
    transform(lambda x: (seen.append(x), x.sum())[1], *args)
    return seen[0]


HURTING = {
    "nested": (lambda: torch.nested.nested_tensor([X, X[:1]]), "a nested tensor cannot cross"),
    "jagged": (lambda: torch.nested.nested_tensor([X, X[:1]], layout=torch.jagged), "a nested tensor cannot cross"),
    "meta": (lambda: X.to("meta"), "a meta tensor has no values"),
    "mkldnn": (lambda: X.to_mkldnn(), "a tensor in a layout other than"),
    "csr": (lambda: torch.eye(2).to_sparse_csr(), "a tensor in a layout other than"),
    "fake": (fake, "(a tensor without storage of its own|.*FakeTensor keeps its values elsewhere)"),
    "dispatching": (two_tensors, ".*TwoTensor keeps its values elsewhere"),
    "freed": (freed, "a tensor without storage of its own"),
    "functional": (lambda: torch._to_functional_tensor(X), ".*Tensor keeps its values elsewhere"),
    "of grad": (lambda: leaked(lambda f: torch.func.grad(f)(X)), ".*Tensor keeps its values elsewhere"),
    "of jvp": (lambda: leaked(torch.func.jvp, (X,), (X,)), ".*Tensor keeps its values elsewhere"),
    "of vmap": (lambda: leaked(lambda f: torch.func.vmap(f)(X)), ".*Tensor keeps its values elsewhere"),
}
IN_PYTHON = (
    "dispatching",
    "functional",
    "of grad",
    "of jvp",
    "of vmap",
)  # TorchScript cannot tell, or asks the subclass, and gets its answer


@pytest.mark.parametrize(("make", "message"), HURTING.values(), ids=HURTING)
@pytest.mark.filterwarnings("ignore:.*(Sparse CSR|prototype)")
def test_a_tensor_that_would_hurt_is_refused_wherever_it_is(owner, painter, make, message):
    hurting, encoder = make(), tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    echo = tr.create(owner, zoo.Deep, zoo.DeepEcho)
    encoder(torch.ones(2, 8))  # a tensor of the same class
    calls = {
        "Encoder.forward.x": lambda: encoder(hurting),
        "Encoder.topk.x": lambda: encoder.topk_async(hurting),
        "Painter.either.value": lambda: painter.either(Pair(hurting)),
        "Painter.anything.value": lambda: painter.anything((1, {"a": [hurting]})),
        "Deep.forward.a": lambda: echo([{"a": None, "b": (hurting, 1)}]),
        "Deep.forward.b": lambda: echo([], [X, hurting]),
    }
    for where, call in calls.items():
        with pytest.raises(ArgumentError, match=f"^{where}[^:]*: {message}"):
            call()
    if make not in [HURTING[name][0] for name in IN_PYTHON]:
        with pytest.raises(FAILURES, match="(cannot send Painter.forward.x: |in is_ordinary|in sendable)"):
            torch.jit.script(Calling(painter))(hurting)
    assert testing.same(echo([], [X])[1], {1: [X]})  # both go on


def test_a_quantized_tensor_crosses(painter):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sent = torch.quantize_per_tensor(X, 0.1, 0, torch.quint8)
        back = painter.either(sent)
    assert torch.equal(back.dequantize(), sent.dequantize())


class Strict:
    def forward(
        self, a: bool, i: int, f: float, s: str, d: torch.device, xs: List[float], t: Tuple[int, int]
    ) -> Tuple[bool, int, float, str, List[float], Tuple[int, int]]: ...


class StrictModule(nn.Module):
    def forward(
        self, a: bool, i: int, f: float, s: str, d: torch.device, xs: List[float], t: Tuple[int, int]
    ) -> Tuple[bool, int, float, str, List[float], Tuple[int, int]]:
        return a, i, f, s, xs, t


class Numbers:
    def forward(self, f: float, c: complex, m: Optional[float]) -> Tuple[float, complex, Optional[float]]: ...
    def inside(
        self, xs: List[float], by: Dict[float, Tuple[float, complex]], u: Union[float, str]
    ) -> Tuple[List[float], Dict[float, Tuple[float, complex]], Union[float, str]]: ...


class NumbersModule(nn.Module):
    def forward(self, f: float, c: complex, m: Optional[float]) -> Tuple[float, complex, Optional[float]]:
        return f, c, m

    def inside(
        self, xs: List[float], by: Dict[float, Tuple[float, complex]], u: Union[float, str]
    ) -> Tuple[List[float], Dict[float, Tuple[float, complex]], Union[float, str]]:
        return xs, by, u


TOO_LONG = [2**53 + 1, -(2**53) - 1, 10**18 + 1, 2**1100, np.int64(2**53 + 1), torch.tensor(2**53 + 1)]


@pytest.mark.parametrize("n", TOO_LONG, ids=str)
def test_an_int_that_a_float_cannot_hold_is_refused_wherever_it_is(owner, n):
    stub = tr.create(owner, Numbers, NumbersModule)
    assert stub(1.0, 1j, None) == stub(1, 1j, None) == (1.0, 1j, None)  # of the same classes
    calls = {
        "forward.f": lambda: stub(n, 1j, None),
        "forward.c": lambda: stub(1.0, n, None),
        "forward.m": lambda: stub(1.0, 1j, n),
        r"inside.xs\[1\]": lambda: stub.inside([1, n], {}, 1.0),
        r"inside.by, its key .*": lambda: stub.inside([], {n: (1.0, 1j)}, 1.0),
        r"inside.by\[1.0\]\[1\]": lambda: stub.inside([], {1.0: (1.0, n)}, 1.0),
        r"inside.u": lambda: stub.inside([], {}, n),
        r"forward_many.calls\[1\].f": lambda: stub.forward_many([(1.0, 1j, None), (n, 1j, None)]),
    }
    for where, call in calls.items():
        with pytest.raises(ArgumentError, match=f"^Numbers.{where}: "):
            call()


@pytest.mark.parametrize("n", [2**53, -(2**53), 2**60, 0, True, np.int32(7), torch.tensor(2**53)], ids=str)
def test_an_int_that_a_float_can_hold_crosses(owner, n):
    stub = tr.create(owner, Numbers, NumbersModule)
    assert stub(n, n, n) == (float(n), complex(n), float(n))
    assert stub.inside([n, 0.5], {n: (n, n)}, n) == ([float(n), 0.5], {float(n): (float(n), complex(n))}, float(n))


class Tone(str, enum.Enum):
    HIGH = "h"


def test_a_member_for_a_str_is_its_value(owner):
    stub = tr.create(owner, Strict, StrictModule)
    assert stub(**{**FITTING, "s": Tone.HIGH})[3] == "h"


class Duals:
    def forward(self, input: Tensor) -> Tensor: ...


def test_a_dual_tensor_is_refused_wherever_it_is(owner, painter):
    stub, echo = tr.create(owner, Duals, nn.Identity), tr.create(owner, zoo.Deep, zoo.DeepEcho)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(X, X)
        calls = {
            "Duals.forward.input": lambda: stub(dual),
            "Duals.forward_many.calls": lambda: stub.forward_many([(dual,)]),
            "Painter.forward.x": lambda: painter(dual),
            "Painter.either.value": lambda: painter.either(Pair(dual)),
            "Painter.anything.value": lambda: painter.anything((1, {"a": [dual]})),
            "Deep.forward.a": lambda: echo([{"a": None, "b": (dual, 1)}]),
            "Deep.forward.b": lambda: echo([], [X, dual]),
        }
        for where, call in calls.items():
            with pytest.raises(ArgumentError, match=f"^{where}[^:]*: a dual tensor of forward-mode"):
                call()
        assert testing.same(echo([], [X, torch.eye(2).to_sparse()])[1][1][0], X)  # those without a tangent cross
    assert testing.same(echo([], [X])[1], {1: [X]})


def test_a_dual_tensor_is_refused_after_calls_with_the_same_classes(owner):
    stub, encoder = tr.create(owner, Duals, nn.Identity), tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    weight = nn.Parameter(torch.ones(2, 8))
    for x in (torch.ones(2, 8), weight):
        assert torch.equal(stub(x), x)
        encoder(x), encoder(x, 2.0), encoder.topk(x)
    with forward_ad.dual_level():
        for x in (torch.ones(2, 8), weight):
            dual = forward_ad.make_dual(x, torch.ones(2, 8))
            calls = (
                *(lambda: stub(dual), lambda: stub.forward_async(dual), lambda: stub(input=dual)),
                *(lambda: encoder(dual), lambda: encoder(dual, 2.0), lambda: encoder.topk(dual)),
                lambda: stub.forward_many([(x,), (dual,)]),
            )
            for call in calls:
                with pytest.raises(ArgumentError, match=r"^\w+\.\w+(\.calls\[1\])?\.\w+: a dual tensor"):
                    call()
            assert torch.equal(stub(x), x)
    assert torch.equal(stub(weight), weight)


class Texts:
    def forward(self, text: str = "a\0b", *, other: str = "\0") -> str: ...
    def inside(self, texts: Dict[str, List[str]], x: Any) -> Tuple[Dict[str, List[str]], Any]: ...


class TextsModule(nn.Module):
    def forward(self, text: str, other: str) -> str:
        return text + other

    def inside(self, texts: Dict[str, List[str]], x: Any) -> Tuple[Dict[str, List[str]], Any]:
        return texts, x


TEXT = "before\0after"


def test_text_goes_on_after_a_null_character(owner):
    stub = tr.create(owner, Texts, TextsModule, name=TEXT)
    assert stub() == stub.forward_async().wait() == "a\0b\0"
    assert stub(TEXT, other=TEXT) == TEXT + TEXT
    assert stub.forward_many([(TEXT,), {"other": ""}]) == [TEXT + "\0", "a\0b"]
    texts = {TEXT: ["\0", TEXT], "before": []}
    assert stub.inside(texts, {TEXT: [TEXT]}) == (texts, {TEXT: [TEXT]})
    assert tr.connect(owner, Texts, TEXT)("\0") == "\0\0"
    file = io.BytesIO()
    torch.jit.save(stub, file)
    file.seek(0)
    assert tr.load(file)() == "a\0b\0"
    rpc.rpc_sync(owner, tr.withdraw, (TEXT,))


FITTING = {"a": True, "i": 1, "f": 2.5, "s": "x", "d": torch.device("cpu"), "xs": [1.0], "t": (1, 2)}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("a", None), ("a", 1), ("i", 2.5), ("i", 2**63), ("i", None), ("f", "1"), ("f", None)),
        *(("s", b"x"), ("s", "\ud800"), ("d", "cpu"), ("xs", [None]), ("xs", "ab"), ("xs", 1.0)),
        *(("t", (1, 2, 3)), ("t", [1, 2]), ("t", (1, None))),
    ],
)
def test_a_value_that_torch_would_convert_is_refused(owner, name, value):
    stub = tr.create(owner, Strict, StrictModule)
    for call in (stub, stub.forward_async):
        with pytest.raises(ArgumentError, match=rf"^Strict.forward.{name}"):
            call(**{**FITTING, name: value})
        with pytest.raises(ArgumentError, match=rf"^Strict.forward.{name}"):
            call(*{**FITTING, name: value}.values())


@pytest.mark.parametrize(
    ("name", "value", "as_"),
    [
        ("i", True, 1),
        ("f", 3, 3.0),
        ("i", torch.tensor(3), 3),
        ("xs", (1, 2.5), [1.0, 2.5]),
        ("xs", range(2), [0.0, 1.0]),
        ("t", (True, 2), (1, 2)),
    ],
)
def test_a_value_that_loses_nothing_is_converted(owner, name, value, as_):
    expected = {**FITTING, name: as_}
    back = tr.create(owner, Strict, StrictModule)(**{**FITTING, name: value})
    assert testing.same(back, tuple(expected[key] for key in ("a", "i", "f", "s", "xs", "t")))


@pytest.mark.parametrize("transform", [torch.func.vmap, torch.func.grad], ids=["vmap", "grad"])
def test_a_transforms_tensors_are_refused(owner, painter, transform):
    encoder = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    for call in (encoder, encoder.forward_async, painter, painter.forward_async):
        with pytest.raises(ArgumentError, match=r"called under a torch.func transform"):
            transform(lambda x, call=call: call(x))(torch.ones(2, 8))
    assert encoder(torch.ones(2, 8)).shape == (2, 8)


@pytest.mark.parametrize("allow", [False, True])
def test_a_call_under_a_fake_mode_is_refused(owner, painter, allow):
    encoder, x = tr.create(owner, zoo.Encoder, zoo.LinearEncoder), torch.ones(2, 8)
    with FakeTensorMode(allow_non_fake_inputs=allow):
        for call in (
            *(lambda: encoder(x), lambda: encoder.forward_async(x), lambda: encoder.forward_many([(x,)])),
            *(lambda: encoder.forward_remote(x), lambda: painter(x), lambda: painter.forward_async(x)),
        ):
            with pytest.raises(ArgumentError, match=r"forward: called under a FakeTensorMode \(as torch.export"):
                call()
    with FlopCounterMode(display=False):
        assert encoder(x).shape == (2, 8)


@pytest.fixture
def _deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_deterministic")
def test_tensors_of_several_dtypes_cross_where_torch_is_to_be_deterministic(owner, painter):
    echo = tr.create(owner, zoo.Deep, zoo.DeepEcho)
    assert testing.same(echo([], [X, X.long()])[1], {1: [X, X.long()]})
    assert painter.either(torch.eye(2).to_sparse()).is_sparse


@pytest.mark.parametrize(
    "value", [np.complex128(1 + 2j), Decimal("1e400"), Decimal(2**53 + 1), Fraction(2**53 + 1), Fraction(10**400)]
)
def test_a_number_that_a_float_would_change_is_refused(owner, value):
    encoder = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    with pytest.raises(ArgumentError, match="^Encoder.forward.scale: "):
        encoder(torch.ones(1, 8), value)
    for fitting in (Decimal("0.5"), Fraction(1, 2), np.float32(0.5)):
        assert torch.equal(encoder(torch.ones(1, 8), fitting), encoder(torch.ones(1, 8), 0.5))


def test_two_values_for_one_argument_are_refused(owner):
    encoder, x = tr.create(owner, zoo.Encoder, zoo.LinearEncoder), torch.ones(1, 8)
    with pytest.raises(ArgumentError, match="^Encoder.forward: multiple values for argument 'x'"):
        encoder(x, x=x)


def test_a_future_that_has_its_result_keeps_no_stub(owner):
    encoder = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    future, kept = encoder.forward_async(torch.ones(1, 8)), weakref.ref(encoder)
    future.wait()
    del encoder
    gc.collect()
    assert kept() is None
    assert future.wait().shape == (1, 8)


def test_a_parameter_without_values_is_refused(owner):
    encoder = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    for empty in (nn.UninitializedParameter(), nn.UninitializedBuffer(), nn.LazyLinear(3).weight):
        with pytest.raises(ArgumentError, match="^Encoder.forward.x: an uninitialized parameter or buffer has no val"):
            encoder(empty)


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


class ListsOfNumbers:
    def forward(
        self, xs: Union[List[int], List[float], List[Tensor]]
    ) -> Union[List[int], List[float], List[Tensor]]: ...


class ListsOfNumbersModule(nn.Module):
    def forward(self, xs: Union[List[int], List[float], List[Tensor]]) -> Union[List[int], List[float], List[Tensor]]:
        return xs


@pytest.mark.parametrize("given", [(1, 2), (1, 2.5), [1.0, 2.0], [3]])
def test_a_tuple_for_a_union_of_lists_becomes_the_narrowest(owner, given):
    stub = tr.create(owner, ListsOfNumbers, ListsOfNumbersModule)
    arrived = stub(given)
    assert arrived == list(given)
    kinds = {type(value) for value in given}
    assert {type(value) for value in arrived} == (kinds if len(kinds) == 1 else {float})


class OneNumber:
    def forward(self, x: float) -> float: ...


class OneNumberModule(nn.Module):
    def forward(self, x: float) -> float:
        return x


@pytest.mark.parametrize("value", [torch.tensor(1j), torch.tensor(1.0, device="meta"), torch.tensor([1.0, 2.0])])
def test_a_tensor_that_is_no_number_is_an_argument_error(owner, value):
    with pytest.raises(ArgumentError, match=r"OneNumber\.forward\.x: .*is no float"):
        tr.create(owner, OneNumber, OneNumberModule)(value)
