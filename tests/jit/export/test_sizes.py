"""A method that asks whether a size is 0: an empty batch gets what the module gives, or is refused."""

import copy

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr

from .zoo import OnTensor

EXAMPLE = {"forward": (torch.ones(3, 4),)}
OTHERWISE = torch.full((2, 4), 7.0)


class Does(nn.Module):
    def __init__(self, do):
        super().__init__()
        self.do = do

    def forward(self, x):
        return self.do(x)


QUESTIONS = {
    "if size": lambda x: x + 1 if x.shape[0] else OTHERWISE * 1,
    "== 0": lambda x: OTHERWISE * 1 if x.shape[0] == 0 else x + 1,
    "!= 0": lambda x: x + 1 if x.shape[0] != 0 else OTHERWISE * 1,
    "> 0": lambda x: x + 1 if x.shape[0] > 0 else OTHERWISE * 1,
    ">= 1": lambda x: x + 1 if x.shape[0] >= 1 else OTHERWISE * 1,
    "< 1": lambda x: OTHERWISE * 1 if x.shape[0] < 1 else x + 1,
    "numel": lambda x: OTHERWISE * 1 if x.numel() == 0 else x + 1,
    "in": lambda x: OTHERWISE * 1 if 0 in x.shape else x + 1,
    "all": lambda x: x + 1 if all(x.shape) else OTHERWISE * 1,
    "max": lambda x: x.sum(0) / max(x.shape[0], 1),
    "a slice": lambda x: x + 1 if x[1:].numel() else OTHERWISE * 1,
    "halves": lambda x: OTHERWISE * 1 if x.shape[0] // 2 == 0 else x + 1,
    "torch.cond": lambda x: torch.cond(x.sum() > 0, lambda x: x * 2, lambda x: x + 1, (x,)) * max(x.shape[0], 1),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_empty_batch_takes_the_branch_that_it_takes_in_the_module(question):
    module = Does(QUESTIONS[question])
    exported = tr.exported(module, OnTensor, EXAMPLE)
    for x in (torch.zeros(0, 4), torch.ones(1, 4), torch.ones(5, 4), torch.zeros(3, 0)):
        result = given_by(exported, x)
        assert result is not None or (question, len(x)) in REFUSED, tuple(x.shape)
        assert result is None or torch.equal(result, module(x)), tuple(x.shape)


REFUSED = {("torch.cond", 0), ("torch.cond", 3)}
if torch.__version__ < "2.12":  # whose torch.export assumes that a slice has something
    REFUSED |= {("a slice", 0), ("a slice", 3)}


def given_by(exported, x):
    """Returns what an exported module gives, or None if it refuses the call."""
    try:
        return exported(x)
    except torch.jit.Error as error:
        if "exported for" in str(error):
            return None
        raise


def test_what_torch_asks_of_sizes_does_not_refuse_an_empty_batch():
    attention = Does(lambda x: nn.functional.scaled_dot_product_attention(x, x, x).flatten(1))
    exported = tr.exported(attention, OnTensor, {"forward": (torch.ones(3, 2, 4),)})
    assert exported(torch.zeros(0, 2, 4)).shape == (0, 8)
    assert exported(torch.ones(5, 2, 4)).shape == (5, 8)


def test_a_size_of_1_has_a_graph_where_a_condition_on_it_excludes_it():
    attention = nn.MultiheadAttention(4, 2, batch_first=True).eval()
    module = Does(lambda x: attention(x[None], x[None], x[None])[0])
    module.attention = attention
    exported = tr.exported(module, OnTensor, {"forward": (torch.rand(3, 4),)})
    for x in (torch.rand(3, 4), torch.rand(1, 4), torch.rand(7, 4)):
        torch.testing.assert_close(exported(x), module(x))
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).eval()
    exported = tr.exported(layer, Encodes, {"forward": (torch.rand(2, 3, 4),)})
    for x in (torch.rand(2, 3, 4), torch.rand(5, 1, 4), torch.rand(1, 5, 4)):
        torch.testing.assert_close(exported(x), layer(x))


class Encodes:
    def forward(self, src: Tensor) -> Tensor: ...


class WithInteger:
    def forward(self, x: Tensor, k: int) -> Tensor: ...


class With(nn.Module):
    def __init__(self, do):
        super().__init__()
        self.do = do

    def forward(self, x, k):
        return self.do(x, k)


OF_INTEGERS = {
    "a product": lambda x, k: x * k,
    "a slice": lambda x, k: x[:, :k] * x[:, :k].shape[1],
    "a slice from": lambda x, k: torch.arange(x[:, k:].shape[1]) + x[0, 0],
    "arithmetic": lambda x, k: x * (k // 2 - k % 3 + abs(k) + k**2),
    "a diagonal": lambda x, k: x.tril(k),
    "max": lambda x, k: torch.zeros(max(k, 0), 2).sum() + x,
    "a branch": lambda x, k: x[:, :k] if k < 0 else x * 3,
}


@pytest.mark.parametrize("use", OF_INTEGERS)
def test_an_integer_may_be_negative(use):
    module, x = With(OF_INTEGERS[use]), torch.rand(3, 4)
    both = tr.exported(module, WithInteger, {"forward": [(x, 2), (x, -1)]})
    alone = tr.exported(module, WithInteger, {"forward": (x, -1)})
    assert torch.equal(alone(x, -1), module(x, -1))
    for k in (-1, -3, 0, 1, 5):
        x = torch.rand(2, 4)
        assert torch.equal(both(x, k), module(x, k))
        if use != "a branch":
            assert torch.equal(alone(x, k), module(x, k))


def test_an_integer_is_refused_with_the_limit_that_the_method_asks_for():
    exported = tr.exported(With(OF_INTEGERS["a branch"]), WithInteger, {"forward": (torch.ones(3, 4), 4)})
    with pytest.raises(torch.jit.Error, match="k: exported for >= 0; came -1"):
        exported(torch.ones(3, 4), -1)
    limited = torch.export.Dim.AUTO(min=2, max=9)
    exported = tr.exported(
        With(OF_INTEGERS["a product"]),
        WithInteger,
        {"forward": (torch.ones(3, 4), 4)},
        dynamic_shapes={"forward": {"x": None, "k": limited}},
    )
    with pytest.raises(torch.jit.Error, match="k: exported for >= 2 and <= 9; came -1"):
        exported(torch.ones(3, 4), -1)


class Joining(nn.Module):
    def forward(self, x, y):
        return torch.cat([x, y])


def test_an_example_may_be_empty():
    class Pair:
        def forward(self, x: Tensor, y: Tensor) -> Tensor: ...

    joining = tr.exported(Joining(), Pair, {"forward": (torch.zeros(0, 3), torch.ones(2, 3))})
    for rows in (0, 1, 4):
        x = torch.ones(rows, 3)
        assert torch.equal(joining(x, torch.ones(2, 3)), torch.ones(rows + 2, 3))


# -- multiples in dynamic_shapes


class OnPair:
    def forward(self, x: Tensor, y: Tensor) -> Tensor: ...


class OfBoth(nn.Module):
    def forward(self, x, y):
        return x.sum() * x.shape[0] + y.sum() * y.shape[0]


Q, P = torch.export.Dim("q", max=9), torch.export.Dim("p", max=9)
BLOCKS = Does(lambda x: x.view(-1, 4, x.shape[1]).sum(1))
OF_MULTIPLES = {
    "4*q": (BLOCKS, {0: 4 * Q}, {8: "", 12: "", 36: "", 40: "n >= 2 and <= 9", 6: "4*n", 4: "n >= 2", 0: "n >= 2"}),
    "4*q without a limit": (BLOCKS, {0: 4 * torch.export.Dim("r")}, {4000: "", 6: "4*n", 4: "n >= 2"}),
    "2*q + 1": (Does(lambda x: x * x.shape[0]), {0: 2 * Q + 1}, {7: "", 19: "", 6: "2*n + 1", 21: "<= 9", 1: ">= 2"}),
}


@pytest.mark.parametrize("program", [False, True])
@pytest.mark.parametrize("shape", OF_MULTIPLES)
def test_a_size_may_be_a_multiple_of_one_that_no_argument_has(shape, program):
    module, dynamic, calls = OF_MULTIPLES[shape]
    example = (torch.rand(next(iter(calls)) if "+" in shape else 8, 4),)
    if program:
        given = torch.export.export(module, example, dynamic_shapes=({0: dynamic[0]},))
        exported = tr.exported({"forward": given}, OnTensor)
    else:
        exported = tr.exported(module, OnTensor, {"forward": example}, dynamic_shapes={"forward": {"x": dynamic}})
    for size, said in calls.items():
        x = torch.rand(size, 4)
        if not said:
            assert torch.equal(exported(x), module(x))
            continue
        with pytest.raises(torch.jit.Error) as raised:
            exported(x)
        assert f"x.size(0): exported for a size of {shape.split(' w')[0].replace('q', 'n')}" in str(raised.value)
        assert said in str(raised.value)
        assert f"; came {size};" in str(raised.value)


@pytest.mark.parametrize(
    ("shapes", "right", "wrong"),
    [
        ((4 * Q, 2 * Q), [(8, 4), (12, 6)], {(12, 4): "y.size(0): exported for a size of 2*n; came 4"}),
        ((2 * Q, Q), [(8, 4), (12, 6)], {(12, 4): "x.size(0): exported for a size of 2*y.size(0); came 12"}),
        ((Q, 2 * Q), [(8, 16), (3, 6)], {(3, 5): "y.size(0): exported for a size of 2*x.size(0); came 5"}),
        (
            (2 * Q, 3 * P),
            [(8, 9), (12, 27)],
            {(8, 4): "y.size(0): exported for a size of 3*m, m >= 2 and <= 9; came 4"},
        ),
    ],
)
def test_multiples_of_one_size_are_compared_with_each_other(shapes, right, wrong):
    module, (x, y) = OfBoth(), (torch.rand(rows, 4) for rows in right[0])
    dynamic = {"forward": {"x": {0: shapes[0]}, "y": {0: shapes[1]}}}
    exported = tr.exported(module, OnPair, {"forward": (x, y)}, dynamic_shapes=dynamic)
    for rows in right:
        x, y = (torch.rand(size, 4) for size in rows)
        torch.testing.assert_close(exported(x, y), module(x, y))
    for rows, said in wrong.items():
        with pytest.raises(torch.jit.Error) as raised:
            exported(*(torch.rand(size, 4) for size in rows))
        assert said in str(raised.value)


CONVOLUTIONS = {
    1: (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d, nn.MaxPool1d, nn.AvgPool1d),
    2: (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d),
    3: (nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d, nn.MaxPool3d, nn.AvgPool3d),
}


class Residual(nn.Module):
    """A block of a residual network, with two ways to sizes that are smaller or larger."""

    def __init__(self, one, other, norm, last):
        super().__init__()
        self.one, self.other, self.norm, self.last = one, other, norm, last

    def forward(self, x):
        return self.last(nn.functional.relu(self.norm(self.one(x)))) + self.other(x)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("ways", ["convolutions", "pools", "transposed", "groups"])
@pytest.mark.parametrize("dimensions", CONVOLUTIONS)
def test_a_residual_block_takes_an_empty_batch(dimensions, ways, training):
    convolve, transpose, normalize, largest, mean = CONVOLUTIONS[dimensions]
    with_stride = convolve(4, 8, 3, 2, 1)
    one, other, norm = {
        "convolutions": (with_stride, convolve(4, 8, 1, 2), normalize(8)),
        "pools": (largest(3, 2, 1), mean(3, 2, 1), normalize(4)),
        "transposed": (transpose(4, 8, 2, 2), transpose(4, 8, 4, 2, 1), normalize(8)),
        "groups": (with_stride, nn.Sequential(mean(2), convolve(4, 8, 1)), nn.GroupNorm(2, 8)),
    }[ways]
    channels = norm.weight.numel()
    module = Residual(one, other, norm, convolve(channels, channels, 3, 1, 1)).train(training)
    exported = tr.exported(copy.deepcopy(module), OnTensor, {"forward": (torch.randn(2, 4, *[8] * dimensions),)})
    for size in (0, 1, 3):
        x = torch.randn(size, 4, *[8] * dimensions)
        assert torch.equal(exported(x), module(x)), size
