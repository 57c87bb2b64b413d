"""A call that an export is not right for is refused: with the argument, what was exported for, and what came."""

import enum
import math
import re
from typing import Dict, List, NamedTuple, Optional, Tuple

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import ArgumentError, CreationError, MismatchError, UnsupportedTypeError
from torchremote.jit.read.parse import parse_interface

from .zoo import Kwargs, OnTensor, OnTwo, X


class Way(enum.Enum):
    SUM = 1
    MEAN = 2


class Pair(NamedTuple):
    values: Tensor
    count: int


class Takes:
    def forward(
        self,
        x: Tensor,
        xs: List[Tensor],
        named: Dict[str, Tensor],
        pair: Pair,
        both: Tuple[int, Optional[Tensor]],
        way: Way,
        scale: float,
        name: str,
        flag: bool,
        number: complex,
        dtype: torch.dtype,
        absent: Optional[Tensor],
        limit: float,
    ) -> Tensor: ...


class Taking(nn.Module):
    def forward(self, x, xs, named, pair, both, way, scale, name, flag, number, dtype, absent, limit):
        return (x * scale + sum(xs) + named["a"] + pair.values + both[1]).to(dtype)[: pair.count]


def taken(**changes):
    one = torch.ones(3, 4)
    given = {
        "x": one,
        "xs": [one, one],
        "named": {"a": one, "b": one},
        "pair": Pair(one, 2),
        "both": (1, one),
        "way": Way.SUM,
        "scale": 0.5,
        "name": "n",
        "flag": True,
        "number": 1j,
        "dtype": torch.float32,
        "absent": None,
        "limit": 0.0,
    }
    return {**given, **changes}


@pytest.fixture(scope="module")
def taking():
    return tr.exported(Taking(), Takes, {"forward": taken()})


def refusal(module, *args, **kwargs):
    with pytest.raises(torch.jit.Error) as raised:
        module(*args, **kwargs)
    return str(raised.value).strip().splitlines()[-1]


ONE = torch.ones(3, 4)
CHANGES = {
    "x: exported for float32 [any, any]; came float64 [3, 4]": {"x": ONE.double()},
    "x: exported for float32 [any, any]; came float32 [12]": {"x": torch.ones(12)},
    "xs[0]: exported for float32 [x.size(0), x.size(1)]; came float32 [3, 4]": {"x": torch.ones(3, 5)},
    "x: exported for float32 [any, any]; came float32 [3, 4], not strided": {"x": ONE.to_sparse()},
    "xs: exported for 2 items; came 3": {"xs": [ONE] * 3},
    "xs[1]: exported for float32 [x.size(0), x.size(1)]; came float32 [2, 4]": {"xs": [ONE, ONE[:2]]},
    "named: exported for the keys 'a', 'b' in this order; came [b, a]": {"named": {"b": ONE, "a": ONE}},
    "named: exported for the keys 'a', 'b' in this order; came [a]": {"named": {"a": ONE}},
    "pair.values: exported for float32 [x.size(0), x.size(1)]; came int64 [3, 4]": {"pair": Pair(ONE.long(), 2)},
    "both[1]: exported for a value; came None": {"both": (1, None)},
    "way: exported for SUM; came MEAN": {"way": Way.MEAN},
    "scale: exported for 0.5; came 0.25": {"scale": 0.25},
    "name: exported for 'n'; came m": {"name": "m"},
    "flag: exported for True; came False": {"flag": False},
    "number: exported for 1j; came": {"number": 2j},
    "dtype: exported for torch.float32; came float64": {"dtype": torch.float64},
    "absent: exported for None; came a value": {"absent": ONE},
    "limit: exported for 0.0; came": {"limit": -0.0},
}


@pytest.mark.parametrize("said", CHANGES)
def test_what_differs_is_named(taking, said):
    assert said in refusal(taking, **taken(**CHANGES[said]))


def test_a_call_like_the_example_is_taken(taking):
    given = taken(pair=Pair(torch.ones(7, 4), 5), x=torch.ones(7, 4), xs=[torch.ones(7, 4)] * 2)
    given |= {"named": {"a": torch.ones(7, 4), "b": torch.ones(1, 1)}, "both": (3, torch.ones(7, 4))}
    assert torch.equal(taking(**given), Taking()(**given))


class Branching(nn.Module):
    def forward(self, x):
        if x.shape[0] == 1:
            return x * 100
        if x.shape[0] % 4 == 0:
            return x * 4
        if x.shape[1] > 2 * x.shape[0]:
            return x * 2
        return x


@pytest.mark.parametrize("size", [(8, 9), (3, 5), (3, 11), (1, 7)])
def test_a_branch_on_sizes_is_never_the_wrong_one(size):
    module = Branching()
    exported = tr.exported(module, OnTensor, {"forward": (torch.ones(size),)})
    taken = 0
    for rows in range(1, 14):
        for columns in (1, 2, 5, 9, 11, 40):
            x = torch.randn(rows, columns)
            try:
                found = exported(x)
            except torch.jit.Error:
                continue
            taken += 1
            assert torch.equal(found, module(x))
    assert taken > 5


def test_several_examples_have_a_graph_each_and_the_call_takes_the_one_it_meets():
    module = Branching()
    examples = [(torch.ones(size),) for size in ((8, 9), (3, 5), (3, 11), (1, 7))]
    exported = tr.exported(module, OnTensor, {"forward": examples})
    for rows in range(1, 14):
        for columns in (2, 5, 9, 11, 40):
            x = torch.randn(rows, columns)
            assert torch.equal(exported(x), module(x))
    with pytest.raises(torch.jit.Error) as raised:
        exported(torch.ones(3))
    assert re.search(r"forward: none of its \d+ graphs is right for this call:", str(raised.value))
    assert "3: x: exported for float32" in str(raised.value)


class Sliced(nn.Module):
    def forward(self, x, y=None):
        total = torch.zeros(16, 16)
        total[: x.shape[0], : x.shape[1]] = x
        return total[: x.shape[0]] * (1 if x.shape[0] > 1 else 5)


def test_sizes_of_1_have_graphs_of_their_own_where_torch_export_wants_2():
    module = Sliced()
    exported = tr.exported(module, OnTensor, {"forward": (torch.ones(3, 4),)})
    for size in ((1, 4), (5, 1), (1, 1), (7, 9)):
        x = torch.randn(size)
        assert torch.equal(exported(x), module(x)), size


def test_a_size_of_1_is_refused_in_plain_words():
    class Squeezed(nn.Module):
        def forward(self, x):
            assert x.shape[0] != 1
            return x.squeeze(0)

    exported = tr.exported(Squeezed(), OnTensor, {"forward": (torch.ones(3, 4),)})
    assert "x.size(0): exported for sizes of 2 or more; came x.size(0) of 1" in refusal(exported, torch.ones(1, 4))


class Asking(nn.Module):
    def forward(self, x):
        return x * 2 if x.is_contiguous() else x * 3


class AskingForGradients(nn.Module):
    def forward(self, x):
        return x * 2 if x.requires_grad else x * 3


def test_what_a_method_asks_of_a_tensor_is_compared():
    exported = tr.exported(Asking(), OnTensor, {"forward": X})
    assert exported(torch.ones(2, 4)).sum() == 16
    said = refusal(exported, torch.ones(4, 2).t())
    assert said.endswith("x: exported for a contiguous tensor; came another; pass contiguous()")
    exported = tr.exported(AskingForGradients(), OnTensor, {"forward": X})
    assert "x: exported for a tensor that requires no gradient" in refusal(
        exported, torch.ones(2, 4, requires_grad=True)
    )


class Sized(nn.Module):
    def forward(self, x, y=None):
        return x.reshape(-1)[: y.shape[0] * 2]


def test_dynamic_shapes_are_those_of_torch_export():
    size = torch.export.Dim("size", min=2, max=9)
    shapes = {"forward": {"x": {0: size}, "y": {0: 2 * size}}}
    examples = {"forward": (torch.ones(3, 4), torch.ones(6))}
    exported = tr.exported(Sized(), OnTwo, examples, dynamic_shapes=shapes)
    assert exported(torch.ones(9, 4), torch.ones(18)).shape == (36,)
    assert "x: exported for float32 [>= 2 and <= 9, 4]; came float32 [10, 4]" in refusal(
        exported, torch.ones(10, 4), torch.ones(20)
    )
    assert "y.size(0): exported for a size of 2*x.size(0); came 17" in refusal(exported, ONE, torch.ones(17))
    fixed = tr.exported(Sized(), OnTwo, examples, dynamic_shapes={"forward": {"x": None, "y": None}})
    assert "x: exported for float32 [3, 4]; came float32 [4, 4]" in refusal(fixed, torch.ones(4, 4), torch.ones(6))


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"foward": {"x": None}}, "dynamic_shapes: OnTwo has no method 'foward'; it has forward"),
        ({"x": {0: torch.export.Dim.AUTO}}, "dynamic_shapes: OnTwo has no method 'x'"),
        (3, "dynamic_shapes: int is no mapping; give one from each method of OnTwo"),
        ({"forward": 3}, r"OnTwo.forward: dynamic_shapes is of class int; give a tuple with an item for each argument"),
        (
            {"forward": ({0: torch.export.Dim.AUTO},)},
            "OnTwo.forward: dynamic_shapes is of class tuple of 1 items; give a tuple",
        ),
        ({"forward": {"z": None}}, "dynamic_shapes names 'z', which is no argument"),
    ],
)
def test_dynamic_shapes_that_do_not_fit(shapes, said):
    with pytest.raises(ArgumentError, match=said):
        tr.exported(Sized(), OnTwo, {"forward": (torch.ones(3, 4), torch.ones(6))}, dynamic_shapes=shapes)


class Nested:
    def forward(self, xs: List[Tensor], named: Dict[str, Tensor], scale: float) -> Tensor: ...


class OfNested(nn.Module):
    def forward(self, xs, named, scale):
        return xs[0] * scale + named["a"]


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"xs": 3}, r"Nested.forward.xs: dynamic_shapes is of class int, where a list is wanted"),
        ({"xs": []}, r"Nested.forward.xs: dynamic_shapes is \[\], and the example has 1 items"),
        ({"named": [None]}, r"Nested.forward.named: dynamic_shapes is of class list, where a mapping is wanted"),
        ({"named": {"b": None}}, r"Nested.forward.named: dynamic_shapes is .*, and the example has the keys 'a'"),
        ({"scale": {0: None}}, r"Nested.forward.scale: dynamic_shapes has sizes of it, and the example has 2.0"),
    ],
)
def test_dynamic_shapes_inside_arguments_that_do_not_fit(shapes, said):
    with pytest.raises(ArgumentError, match=said):
        tr.exported(OfNested(), Nested, {"forward": ([ONE], {"a": ONE}, 2.0)}, dynamic_shapes={"forward": shapes})


class ByNumber:
    def forward(self, x: Dict[int, Tensor]) -> Dict[int, Tensor]: ...


class ByDtype:
    def forward(self, x: Dict[torch.dtype, Tensor]) -> Tensor: ...


class Keyed(nn.Module):
    def __init__(self, key):
        super().__init__()
        self.key = key

    def forward(self, x):
        return {self.key: next(iter(x.values()))}


def test_keys_of_dicts_have_the_declared_type():
    exported = tr.exported(Keyed(3), ByNumber, {"forward": ({7: ONE},)})
    assert list(exported({7: ONE})) == [3]
    for key in ("7", 7.0, True):
        with pytest.raises(ArgumentError, match=rf"ByNumber.forward.x: the key {key!r} is no int"):
            tr.exported(Keyed(3), ByNumber, {"forward": ({key: ONE},)})
        with pytest.raises(MismatchError, match=rf"ByNumber.forward.return: the key {key!r} is no int"):
            tr.exported(Keyed(key), ByNumber, {"forward": ({7: ONE},)})
    with pytest.raises(UnsupportedTypeError, match=r"ByDtype.forward.x: an exported module cannot have Dict\[dtype"):
        tr.exported(Keyed(3), ByDtype, {"forward": ({torch.float32: ONE},)})


@pytest.mark.parametrize("name", ["len", "list", "max", "min", "abs", "round", "str", "differs_0", "finish"])
def test_an_argument_of_an_exported_method_may_be_called(name):
    interface = parse_interface("__torch__.Named", f"forward(x: Dict[str, Tensor], {name}: int) -> Tensor")

    class Any(nn.Module):
        def forward(self, x, **more):
            return x["a"] * more[name]

    examples = [{"x": {"a": torch.ones(3, size)}, name: size} for size in (4, 5)]
    exported = tr.exported(Any(), interface, {"forward": examples})
    assert exported({"a": torch.ones(2, 5)}, 5).sum() == 50


class Filling(nn.Module):
    def __init__(self):
        super().__init__()
        self.fill, self.fills = math.nan, [math.nan]

    def forward(self, x):
        return x.masked_fill(x > 0, self.fill)


def test_a_module_may_have_nan_as_an_attribute():
    exported = tr.exported(Filling(), OnTensor, {"forward": X})
    assert bool(exported(torch.ones(2, 4)).isnan().all())


class Count(nn.Module):
    def forward(self, x):
        self.count = getattr(self, "count", 0) + 1
        return x


class Remembering(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.seen = torch.zeros(4), []

    def forward(self, x):
        self.hidden = self.hidden + x.sum(0)
        return x * self.hidden


class Appending(Remembering):
    def forward(self, x):
        self.seen.append(x)
        return x


class Growing(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("cache", torch.zeros(0, 4))

    def forward(self, x):
        self.cache = torch.cat([self.cache, x])
        return self.cache


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Count, "Count changes its attribute count"),
        (
            Remembering,
            "Remembering changes its attribute hidden, which an exported module cannot keep; make it a tensor",
        ),
        (Appending, "Appending changes its attribute seen"),
        (Growing, "Growing assigns a tensor of another size or dtype to its buffer cache"),
    ],
)
def test_state_that_an_export_would_lose_is_refused(make, said):
    with pytest.raises(CreationError, match=said):
        tr.exported(make(), OnTensor, {"forward": X})


def test_a_backward_hook_is_refused():
    module = Kwargs()
    module.linear.register_full_backward_hook(lambda *ignored: None)
    with pytest.raises(CreationError, match="Kwargs's part linear has a backward hook"):
        tr.exported(module, OnTwo, {"forward": X})


@torch.library.custom_op("torchremote_tests::doubled", mutates_args=())
def doubled(x: Tensor) -> Tensor:
    return x * 2


@doubled.register_fake
def _(x):
    return torch.empty_like(x)


class InPython(nn.Module):
    def forward(self, x):
        return doubled(x)


def test_an_operator_in_python_is_refused_by_name():
    with pytest.raises(CreationError, match="torchremote_tests::doubled, which is written in Python and takes the GIL"):
        tr.exported(InPython(), OnTensor, {"forward": X})


class Returning(nn.Module):
    def forward(self, x):
        return {"x": x}


TAKES = r"forward takes 2 \(x: Tensor, y: Optional\[Tensor\]\)"


@pytest.mark.parametrize(
    ("make", "examples", "error", "said"),
    [
        (Kwargs, {}, ArgumentError, "OnTwo.forward: no example of its arguments"),
        (Kwargs, {"forward": []}, ArgumentError, "OnTwo.forward: no example of its arguments"),
        (Kwargs, {"forward": X, "go": X}, ArgumentError, "OnTwo has no method 'go'"),
        (Kwargs, {"forward": {"z": 1}}, ArgumentError, "an example has 'z', which is no argument; forward takes 2"),
        (Kwargs, {"forward": {"x": ONE, "z": 1}}, ArgumentError, "an example has 'z', which is no argument"),
        (Kwargs, {"forward": {}}, ArgumentError, r"an example by name of 0 \(\), without 'x'; forward takes 2"),
        (Kwargs, {"forward": ()}, ArgumentError, r"an example of 0 arguments \(\), without 'x'; forward takes 2"),
        (
            Kwargs,
            {"forward": (ONE, None, 3)},
            ArgumentError,
            f"of 3 arguments .Tensor, NoneType, int.; {TAKES}",
        ),
        (Kwargs, {"forward": [X, (ONE, None, 3)]}, ArgumentError, r"forward\[1\]: an example of 3 arguments"),
        (Kwargs, {"forward": (1,)}, ArgumentError, "OnTwo.forward.x: 1 is no Tensor"),
        (Kwargs, {"forward": ONE}, ArgumentError, f"a Tensor is no example; {TAKES}; an example is a tuple"),
        (Kwargs, X, ArgumentError, "examples: tuple is no mapping"),
        (Returning, {"forward": {"x": ONE}}, MismatchError, r"takes no such argument; give both the same name"),
    ],
)
def test_examples_that_do_not_fit(make, examples, error, said):
    with pytest.raises(error, match=said):
        tr.exported(make(), OnTwo, examples)


class Renamed(nn.Module):
    def forward(self, z, w=None):
        return z * 2 if w is None else z * w


class RenamedAndMore(Renamed):
    def forward(self, z, w=None, **options):
        return super().forward(z, w)


def test_arguments_that_the_module_calls_otherwise_go_by_their_places():
    exported = tr.exported(Renamed(), OnTwo, {"forward": (ONE, ONE * 3)})
    assert torch.equal(exported(ONE, ONE * 5), ONE * 5)
    with pytest.raises(MismatchError, match="forward calls this argument 'z', and takes others by any name, too"):
        tr.exported(RenamedAndMore(), OnTwo, {"forward": (ONE, ONE)})


def test_a_result_that_does_not_fit():
    with pytest.raises(MismatchError, match="OnTensor.forward.return: an object of class dict is no Tensor"):
        tr.exported(Returning(), OnTensor, {"forward": X})


def test_nan_is_compared_as_nan():
    class Limited:
        def forward(self, x: Tensor, limit: float) -> Tensor: ...

    class Limit(nn.Module):
        def forward(self, x, limit):
            return x + limit

    exported = tr.exported(Limit(), Limited, {"forward": (ONE, math.nan)})
    assert exported(ONE, math.nan).isnan().all()
    assert "limit: exported for nan; came 1" in refusal(exported, ONE, 1.0)


class WithComplex:
    def forward(self, x: Tensor, number: complex) -> Tensor: ...


class ByKey:
    def forward(self, named: Dict[float, Tensor]) -> Tensor: ...


def test_parts_of_numbers_are_compared_with_their_signs_and_nan_is_nan():
    class Signed(nn.Module):
        def forward(self, x, number):
            return x * math.copysign(1, number.imag)

    numbers = [0j, complex(0.0, -0.0), complex(-1.0, 0.0), complex(-1.0, -0.0), complex(math.nan, 0), 1j]
    for example in numbers[1::3]:
        exported = tr.exported(Signed(), WithComplex, {"forward": (ONE, example)})
        for number in numbers:
            if number is example:
                assert torch.equal(exported(ONE, number), Signed()(ONE, number))
            else:
                assert "number: exported for" in refusal(exported, ONE, number)


def test_keys_of_0_are_compared_with_their_sign_and_nan_is_no_key():
    class Summed(nn.Module):
        def forward(self, named):
            return sum(value * math.copysign(1, key) for key, value in named.items())

    exported = tr.exported(Summed(), ByKey, {"forward": ({0.0: ONE, 2.0: ONE},)})
    assert torch.equal(exported({0.0: ONE, 2.0: ONE}), ONE * 2)
    assert "named: exported for the keys 0.0, 2.0" in refusal(exported, {-0.0: ONE, 2.0: ONE})
    assert "named: exported for the keys 0.0, 2.0" in refusal(exported, {0.0: ONE})
    with pytest.raises(ArgumentError, match="ByKey.forward.named: a key is nan, which equals no other key"):
        tr.exported(Summed(), ByKey, {"forward": ({math.nan: ONE},)})
