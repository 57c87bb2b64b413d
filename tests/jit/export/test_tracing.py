"""What torch.export sees nothing of while it traces a method: it is kept, compared with calls, or refused."""

import collections
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import CreationError

from .zoo import OnInput, OnTensor

ONES = torch.ones(2, 3)


class Does(nn.Module):
    """Does what a function says, with a few attributes to do it with."""

    def __init__(self, do):
        super().__init__()
        self.do = do
        self.linear = nn.Linear(3, 3)
        self.queue, self.nested = collections.deque(maxlen=4), {"a": {"n": 0}}
        self.counter, self.plain = Counter(), torch.zeros(3)
        self.register_buffer("one", torch.zeros(3))
        self.register_buffer("other", torch.ones(3))

    def forward(self, x):
        return self.do(self, x)


class Counter:
    n = 0


class Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


def pair(do, example=None):
    torch.manual_seed(0)
    module = Does(do)
    torch.manual_seed(0)
    return module, tr.exported(Does(do), OnTensor, {"forward": (torch.randn(4, 3) if example is None else example,)})


def agree(modules, *calls):
    for x in calls:
        given = [x.detach().clone(memory_format=torch.preserve_format).requires_grad_(x.requires_grad) for _ in modules]
        results = [module(one) for module, one in zip(modules, given, strict=True)]
        assert torch.equal(*results)
        assert torch.equal(*given)
        if results[0].requires_grad:
            for result in results:
                result.square().sum().backward()
            gradients = [[one.grad, *(p.grad for p in m.parameters())] for m, one in zip(modules, given, strict=True)]
            for own, other in zip(*gradients, strict=True):
                assert (own is None) == (other is None)
                assert own is None or torch.equal(own, other)


def squeezed(self, x):
    y = x.squeeze(0)
    return y * 10 if y.dim() == 1 else y


def test_a_size_of_1_is_squeezed_away():
    agree(pair(squeezed), torch.ones(1, 3), torch.ones(2, 3))
    agree(
        pair(lambda self, x: torch.squeeze(x) * len(torch.squeeze(x).shape)), ONES, torch.ones(1, 3), torch.ones(1, 1)
    )


@pytest.mark.parametrize(
    "squeeze",
    [
        lambda x: torch.squeeze(input=x, dim=0),
        lambda x: torch.squeeze(dim=(0,), input=x),
        lambda x: torch.squeeze(a=x, axis=0),
        lambda x: torch.squeeze(x, axis=0),
        lambda x: x.squeeze(axis=0),
        lambda x: x.clone().squeeze_(dim=0),
        lambda x: x[None].squeeze(0, 1),
    ],
)
def test_squeeze_in_all_its_spellings(squeeze):
    agree(pair(lambda self, x: squeeze(x) * squeeze(x).dim()), torch.ones(1, 3), torch.ones(2, 3), torch.ones(4, 1))


def old(self, x):
    before = self.one
    self.one = x.sum(0)
    return before


def shift(self, x):
    result = x - self.other
    self.other = self.one
    self.one = x.detach().sum(0)
    return result


def swap(self, x):
    self.one, self.other = self.other, self.one
    return x * 0 + self.one


def scale(self, x):
    result = x * self.other
    self.other = self.other * 0.9
    return result


@pytest.mark.parametrize("do", [old, shift, swap, scale])
def test_buffers_that_are_assigned(do):
    agree(pair(do), *(torch.full((rows, 3), float(rows), requires_grad=do is scale) for rows in (1, 2, 3)))


def clip(self, x):
    with torch.no_grad():
        self.linear.weight.clamp_(-0.3, 0.3)
    return self.linear(x)


def clip_twice(self, x):
    h = x * 2
    with torch.no_grad():
        h.clamp_(0, 1).mul_(0.5)
    return h


def inferred(self, x):
    with torch.inference_mode():
        k = x * x
    return x * k.clone()


@pytest.mark.parametrize("do", [clip, clip_twice, inferred])
def test_regions_without_gradients(do):
    agree(pair(do), torch.rand(2, 3).requires_grad_())


def append(self, x):
    self.queue.append(x.sum())
    return torch.stack(list(self.queue)).sum()


def count_in_dict(self, x):
    self.nested["a"]["n"] += 1
    return x * self.nested["a"]["n"]


def count_in_object(self, x):
    self.counter.n += 1
    return x * self.counter.n


def add_to_plain(self, x):
    self.plain.add_(1)
    return x + self.plain


@pytest.mark.parametrize(
    ("do", "name"),
    [(append, "queue"), (count_in_dict, "nested"), (count_in_object, "counter"), (add_to_plain, "plain")],
)
def test_state_in_containers_is_refused_and_left_as_it_was(do, name):
    module = Does(do)
    with pytest.raises(CreationError, match=f"Does changes its attribute {name}, which an exported module cannot keep"):
        tr.exported(module, OnTensor, {"forward": (ONES,)})
    assert not module.queue
    assert module.nested == {"a": {"n": 0}}
    assert module.counter.n == 0
    assert torch.equal(module.plain, torch.zeros(3))


def hook(self, x):
    y = x * 2
    y.register_hook(lambda gradient: gradient * 0)
    return y


def seeded(self, x):
    torch.manual_seed(5)
    return x + torch.rand(3)


def forked(self, x):
    with torch.random.fork_rng(devices=[]):
        return x + torch.rand(3)


def force(self, x):
    given = x.detach().requires_grad_()
    return torch.autograd.grad(self.linear(given).sum(), given)[0]


def learn(self, x):
    self.linear(x).sum().backward()
    return x


def causal(self, x):
    return nn.functional.scaled_dot_product_attention(x, x, x, is_causal=x.shape[0] > 1)


@pytest.mark.parametrize(
    ("do", "said"),
    [
        (hook, "it registers a hook for gradients on a tensor"),
        (seeded, "it calls torch.manual_seed, which an exported module would lose; seed before the call"),
        (forked, "it calls torch.set_rng_state"),
        (force, "it calls torch.autograd.grad, which a graph does not have; return what"),
        (learn, "it calls backward, which a graph does not have"),
        (causal, "a bool that depends on a size. Pass a mask"),
    ],
)
def test_what_a_graph_would_lose_is_refused(do, said):
    before = torch.autograd.Function.__dict__["apply"], torch.manual_seed, torch.is_grad_enabled
    with pytest.raises(CreationError, match=said):
        tr.exported(Does(do), OnTensor, {"forward": (ONES,)})
    assert (torch.autograd.Function.__dict__["apply"], torch.manual_seed, torch.is_grad_enabled) == before


def test_a_batch_norm_that_averages_is_refused_with_a_reason():
    with pytest.raises(CreationError, match="A batch norm with momentum=None averages"):
        tr.exported(nn.Sequential(nn.BatchNorm1d(3, momentum=None)), OnInput, {"forward": (ONES,)})


def test_a_function_of_autograd_runs_without_gradients():
    def do(self, x):
        with torch.no_grad():
            return Reverse.apply(x) * 2

    agree(pair(do), ONES)


def test_a_function_of_autograd_leaves_calls_without_gradients():
    modules = pair(lambda self, x: Reverse.apply(self.linear(x)) * 2)
    with torch.no_grad():
        agree(modules, ONES, torch.randn(5, 3))
    with pytest.raises(
        torch.jit.Error, match="forward: exported for calls without gradients; came one with; call it under"
    ):
        modules[1](ONES)


def under_autocast(self, x):
    with torch.autocast("cpu", torch.bfloat16):
        return self.linear(x) + self.linear.bias


@pytest.mark.parametrize(
    "do",
    [
        under_autocast,
        lambda self, x: self.linear(x) * torch.ones(3, dtype=torch.float64),
        lambda self, x: torch.where(x > 0, self.linear(x), x.double()),
        lambda self, x: self.linear(x).softmax(-1, dtype=torch.float64),
        lambda self, x: self.linear(x).sum(0, dtype=torch.float64).expand(4, 3),
        lambda self, x: self.linear(x).mul(torch.ones(3, dtype=torch.complex64)).real,
    ],
)
def test_gradients_have_the_dtypes_of_their_tensors(do):
    modules = pair(do)
    for _ in range(4):  # TorchScript differentiates the graph by itself from the third on
        for module in modules:
            module.zero_grad()
        agree(modules, torch.randn(4, 3, requires_grad=True))


def by_mode(self, x):
    return x * 2 if torch.is_grad_enabled() else x * 3


def by_gradient(self, x):
    y = self.linear(x)
    return (y * 2 if y.requires_grad else y * 3).detach()


@pytest.mark.parametrize("do", [by_mode, by_gradient])
def test_a_method_that_asks_for_the_grad_mode_has_a_graph_for_each(do):
    modules = pair(do)
    agree(modules, ONES)
    with torch.no_grad():
        agree(modules, ONES)


@pytest.mark.parametrize(
    ("do", "other", "said"),
    [
        (lambda self, x: x * (2 if x.is_conj() else 3), lambda x: x.conj(), "a tensor that is not conjugated lazily"),
        (lambda self, x: x * (2 if x.is_neg() else 3), lambda x: x.conj().imag, "a tensor that is not negated lazily"),
        (lambda self, x: x * (x.storage_offset() + 1), lambda x: x[1:], "a tensor at the beginning of its storage"),
    ],
)
def test_more_questions_are_compared(do, other, said):
    complex_one = torch.ones(4, 3, dtype=torch.complex64)
    example = ONES if "negated" in said else complex_one
    exported = tr.exported(Does(do), OnTensor, {"forward": (example,)})
    assert torch.equal(exported(example), example * (1 if "storage" in said else 3))
    with pytest.raises(torch.jit.Error, match=f"x: exported for {said}; came another; pass"):
        exported(other(complex_one))


def test_contiguous_is_kept_where_it_does_nothing_for_the_example():
    transposed = torch.arange(6.0).reshape(2, 3).t().contiguous().t()
    agree(pair(lambda self, x: (x * 2).contiguous().view(-1)), transposed, ONES)

    def in_place(self, x):
        x.contiguous().add_(1)
        return x * 1

    for x in (ONES.clone(), torch.zeros(3, 2).t()):
        exported = pair(in_place)[1]
        given, own = x.clone(memory_format=torch.preserve_format), x.clone(memory_format=torch.preserve_format)
        assert torch.equal(exported(given), in_place(None, own))


def test_dropout_in_evaluation_mode_is_its_argument():
    def do(self, x):
        nn.functional.dropout(x, 0.5, False).add_(1)
        return x

    agree(pair(do), ONES)


class Reads:
    def get(self) -> Tensor: ...
    def scaled(self, by: float) -> Tensor: ...


class Reading(Does):
    def __init__(self):
        super().__init__(None)

    def get(self):
        return self.other + 1

    def scaled(self, by):
        return self.other * by


def test_methods_without_tensors():
    exported = tr.exported(Reading(), Reads, {"get": (), "scaled": (2.0,)})
    assert torch.equal(exported.get(), torch.full((3,), 2.0))
    assert torch.equal(exported.scaled(2.0), torch.full((3,), 2.0))
    exported.other.add_(1)
    assert torch.equal(exported.get(), torch.full((3,), 3.0))


class Named(NamedTuple):
    name: str


class Says:
    def forward(self, x: Tensor) -> Named: ...


def test_text_with_a_size_is_refused():
    with pytest.raises(CreationError, match="it returns the text 's[0-9]+ rows', which has a size or an integer in it"):
        tr.exported(Does(lambda self, x: Named(f"{x.shape[0]} rows")), Says, {"forward": (ONES,)})


def test_autocast_around_a_region_without_gradients_is_refused():
    def do(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                k = self.linear(x)
            return self.linear(x) + k

    with pytest.raises(CreationError, match="autocast region"):
        tr.exported(Does(do), OnTensor, {"forward": (ONES,)})
