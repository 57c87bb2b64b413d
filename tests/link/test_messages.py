"""Tensors of one message that share a storage, and sparse ones: each arrives as what it was."""

import warnings
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

import pytest
import torch
import torch.distributed.autograd as dist_autograd
from torch import Tensor, nn

import torchremote as tr
from torchremote import testing

X = torch.arange(1.0, 7.0)
Z = torch.tensor([1 + 2j, 3 - 1j])


class Two(NamedTuple):
    first: Tensor
    other: Optional[Tensor]


Lists = Dict[str, List[Optional[Tensor]]]


@tr.remote_scriptable
class Post:
    def pair(self, x: Tensor, y: Tensor) -> Tuple[Tensor, Tensor]: ...
    def listed(self, xs: List[Tensor]) -> List[Tensor]: ...
    def inside(
        self, xs: Dict[str, List[Optional[Tensor]]], y: Two
    ) -> Tuple[Dict[str, List[Optional[Tensor]]], Two]: ...
    def either(self, x: Union[Tensor, List[Tensor]]) -> Union[Tensor, List[Tensor]]: ...
    def anything(self, x: Any) -> Any: ...
    def give(self) -> List[Tensor]: ...
    def give_one(self, place: int) -> Tensor: ...
    def give_any(self) -> Any: ...
    def told(self, xs: List[Tensor]) -> List[Tuple[str, int]]: ...


class PostModule(nn.Module):
    def __init__(self, make=lambda: [torch.ones(1)]):
        super().__init__()
        self.kept: List[Tensor] = make()

    def pair(self, x: Tensor, y: Tensor) -> Tuple[Tensor, Tensor]:
        return x, y

    def listed(self, xs: List[Tensor]) -> List[Tensor]:
        return xs

    def inside(self, xs: Lists, y: Two) -> Tuple[Lists, Two]:
        return xs, y

    def either(self, x: Union[Tensor, List[Tensor]]) -> Union[Tensor, List[Tensor]]:
        return x

    def anything(self, x: Any) -> Any:
        return x

    def give(self) -> List[Tensor]:
        return self.kept

    def give_one(self, place: int) -> Tensor:
        return self.kept[place]

    def give_any(self) -> Any:
        return (1, {"a": self.kept})

    def told(self, xs: List[Tensor]) -> List[Tuple[str, int]]:
        told: List[Tuple[str, int]] = []
        for x in xs:
            told.append((str(x.dtype), int(x.is_coalesced()) if x.is_sparse else -1))
        return told


class Calling(nn.Module):
    """Calls from TorchScript."""

    post: Post

    def __init__(self, post):
        super().__init__()
        self.post = post

    def forward(self, xs: List[Tensor]) -> Tuple[List[Tensor], Tuple[Tensor, Tensor], Any, List[Tensor]]:
        pair = self.post.pair(xs[0], xs[-1])
        anything = self.post.anything((xs[0], {"a": xs}))
        return self.post.listed(xs), pair, anything, self.post.give()


def alike(found, sent):
    """Says whether tensors are of one dtype, layout and value, and equally coalesced."""
    if isinstance(sent, Tensor):
        same = (found.dtype, found.layout, found.shape) == (sent.dtype, sent.layout, sent.shape)
        if not same or not sent.is_sparse:
            return same and testing.same(found, sent)
        return found.is_coalesced() == sent.is_coalesced() and all(
            map(torch.equal, (found._indices(), found._values()), (sent._indices(), sent._values()))
        )
    if isinstance(sent, dict):
        return found.keys() == sent.keys() and all(alike(found[key], sent[key]) for key in sent)
    if isinstance(sent, (list, tuple)):
        return len(found) == len(sent) and all(map(alike, found, sent))
    return found == sent


def two_dtypes():
    return [X, X.view(torch.int32)]


def three_dtypes():
    return [X.view(torch.int32), X, X.view(torch.bfloat16), X[2:], X.view(torch.int32)[1:5]]


def complex_and_real():
    return [Z, torch.view_as_real(Z), Z.real, Z.conj(), Z.conj().imag]


def real_and_complex():
    return [torch.view_as_real(Z).reshape(4), Z, torch._neg_view(torch.view_as_real(Z))]


def bytes_first():
    return [X.view(torch.uint8), X.view(torch.float64), X]


def empty():
    none = torch.empty(0)
    return [none, none.view(torch.int32), X[:0].view(torch.int16), X]


def large():
    x = torch.arange(50_000.0)
    return [
        x,
        x.view(torch.int32),
        x[::2].view(torch.int32)[:5],
        torch.ones(3, dtype=torch.int64),
        x[1:].view(torch.int32),
    ]


def expanded():
    return [X[:1].expand(3000, 6), X[:1].view(torch.int32).expand(3000, 6)]


def one_memory():
    array = X.numpy().copy()
    return [torch.from_numpy(array), torch.from_numpy(array.view("int32")), torch.from_numpy(array)]


def sparse_and_its_values():
    values = torch.tensor([1.0, 2.0, 3.0])
    return [torch.sparse_coo_tensor([[0, 2, 2]], values, (4,)), values.view(torch.int32)]


def sparse_of_one_storage():
    both = torch.arange(4)
    return [torch.sparse_coo_tensor(both[:2][None], both[2:].view(torch.float64), (4,)), X]


def quantized():
    scales = torch.tensor([0.5, 0.25], dtype=torch.float64)
    x = torch.quantize_per_channel(torch.ones(2, 2), scales, torch.tensor([0, 1]), 0, torch.qint8)
    return [scales.view(torch.int64), x, scales]


def interleaved():
    x, n = torch.ones(4), torch.ones(4, dtype=torch.int64)
    return [x, n, x.view(torch.int32), n.view(torch.float64), x, n]


SHARED = [
    *(two_dtypes, three_dtypes, complex_and_real, real_and_complex, bytes_first, empty, large, expanded, one_memory),
    *(sparse_and_its_values, sparse_of_one_storage, interleaved),
]


def coalesced():
    return [torch.eye(3).to_sparse()]


def both_kinds():
    twice = torch.sparse_coo_tensor([[0, 0, 1], [1, 1, 2]], X[:3], (3, 3))
    return [twice, twice.coalesce(), torch.sparse_coo_tensor([[0, 1]], X[:2], (3,)), X]


def hybrid():
    values = torch.arange(12.0).view(3, 2, 2)
    x = torch.sparse_coo_tensor([[2, 0, 2]], values, (4, 2, 2))
    return [x.coalesce(), x, x.coalesce().to(torch.bfloat16)]


def few_values():
    makes = [torch.sparse_coo_tensor(torch.arange(n)[None], torch.ones(n), (5,)) for n in range(4)]
    return [*makes, *(x.coalesce() for x in makes)]


def empty_sparse():
    return [torch.sparse_coo_tensor(size=(3, 0)), torch.sparse_coo_tensor(torch.zeros(1, 2), torch.ones(2, 0), (3, 0))]


def no_sparse_dimension():
    x = torch.sparse_coo_tensor(torch.zeros(0, 2, dtype=torch.int64), torch.ones(2), ())
    return [x, x.coalesce()]


def offset_by_chance():
    indices = torch.tensor([7, 0, 0, 2])
    x = torch.sparse_coo_tensor(indices[1:][None], X[:3], (4,))
    assert x._indices().storage_offset() == 1
    assert not x.is_coalesced()
    return [x, x.coalesce()]


def transposed_indices():
    indices = torch.tensor([[0, 1], [0, 1], [2, 2]]).t()
    x = torch.sparse_coo_tensor(indices, X[:3], (3, 3))
    return [x, x.coalesce(), x.coalesce().t()]


SPARSE = [coalesced, both_kinds, hybrid, few_values, empty_sparse, no_sparse_dimension, offset_by_chance]
SPARSE = [*SPARSE, transposed_indices]


@pytest.fixture(autouse=True)
def _silent():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of quantization and of unchecked sparse tensors
        yield


@pytest.fixture(scope="module")
def post(owner):
    return tr.create(owner, Post, PostModule)


@pytest.mark.parametrize("make", [*SHARED, *SPARSE], ids=lambda make: make.__name__)
def test_each_tensor_arrives_as_what_it_was(owner, post, make):
    sent = make()
    told = [(str(x.dtype).removeprefix("torch."), int(x.is_coalesced()) if x.is_sparse else -1) for x in sent]
    for _ in range(2):
        dtypes = post.told(sent)
    assert [one for _, one in dtypes] == [one for _, one in told]
    first, last = sent[0], sent[-1]
    assert alike(post.listed(sent), sent)
    assert alike(post.listed_async(sent).wait(), sent)
    assert alike(post.pair(first, last), (first, last))
    assert alike(post.pair(last, first), (last, first))
    assert alike(
        post.inside({"a": [None, *sent], "b": sent}, Two(last, first)), ({"a": [None, *sent], "b": sent}, (last, first))
    )
    assert alike(post.either(sent), sent)
    assert alike(post.anything((1, {"a": sent}, last)), (1, {"a": sent}, last))
    assert alike(post.pair_many([(x, last) for x in sent]), [(x, last) for x in sent])
    assert alike(post.anything_many([(x,) for x in sent]), sent)
    assert alike(post.listed_many([(sent,)] * 3, return_exceptions=True), [sent] * 3)
    with torch.no_grad():
        assert alike(post.listed(sent), sent)
    given = tr.create(owner, Post, PostModule, args=(make,))
    assert alike(given.give(), sent)
    assert alike(given.give_any(), (1, {"a": sent}))
    assert alike(given.give_one_many([(place,) for place in range(len(sent))]), sent)
    here = torch.jit.script(Calling(given))
    assert alike(here(sent), (sent, (first, last), (first, {"a": sent}), sent))
    assert alike(sent, make())  # the caller's own have not changed


def test_scales_of_a_quantized_tensor_may_be_sent_beside_it(post):
    sent = quantized()
    back = post.listed(sent)
    assert torch.equal(back[0], sent[0])
    assert torch.equal(back[1].dequantize(), sent[1].dequantize())
    assert torch.equal(back[2], sent[2])


class Weighted:
    def forward(self, x: Tensor, y: Tensor) -> Tensor: ...
    def values(self, x: Tensor) -> Tensor: ...
    def same(self, x: Tensor) -> Tensor: ...


class WeightedModule(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x * 2 + y.to(torch.float32) * 0

    def values(self, x: Tensor) -> Tensor:
        return x.values() * 3

    def same(self, x: Tensor) -> Tensor:
        return x


@pytest.fixture(scope="module")
def weighted(owner):
    return tr.create(owner, Weighted, WeightedModule)


def gradient_of(leaf, call):
    with dist_autograd.context() as context:
        y = call()
        dist_autograd.backward(context, [y.to_dense().sum() if y.is_sparse else y.sum()])
        return dist_autograd.get_gradients(context)[leaf].to_dense()


def test_gradients_flow_through_coalesced_tensors(weighted):
    leaf, dense, values = torch.eye(3).to_sparse().requires_grad_(), torch.eye(3).requires_grad_(), X.clone()
    values.requires_grad_()
    assert torch.equal(gradient_of(leaf, lambda: weighted.values(leaf)), 3 * torch.eye(3))
    assert torch.equal(gradient_of(dense, lambda: weighted.values(dense.to_sparse())), 3 * torch.eye(3))
    assert torch.equal(gradient_of(leaf, lambda: weighted.same(leaf)), torch.eye(3))

    def uncoalesced():
        return torch.sparse_coo_tensor(torch.tensor([[7, 0, 0, 1, 1, 2, 2]])[:, 1:], values, (3,))

    assert uncoalesced()._indices().storage_offset() == 1
    assert torch.equal(gradient_of(values, lambda: weighted.same(uncoalesced())), torch.ones(6))
    with dist_autograd.context():
        assert weighted.same(leaf).is_coalesced()
        assert not weighted.same(uncoalesced()).is_coalesced()


def test_gradients_flow_through_a_copy(weighted):
    leaf = torch.arange(3.0).requires_grad_()
    integers = leaf.detach().view(torch.int32)
    for call in (lambda: weighted(leaf, integers), lambda: weighted(leaf[:], integers)):
        assert torch.equal(gradient_of(leaf, call), torch.full((3,), 2.0))


def test_a_copy_requires_a_gradient_as_the_tensor_did(post):
    leaf = torch.arange(3.0).requires_grad_()
    integers = leaf.detach().view(torch.int32)
    with torch.no_grad():
        back = post.pair(integers, leaf)
    assert torch.equal(back[1], leaf)
    large = torch.zeros(5000).requires_grad_()
    assert [x.requires_grad for x in post.listed([large.detach().view(torch.int32), large])] == [False, True]


def test_many_calls_in_several_messages(post):
    calls = [(X, X.view(torch.int32)), (torch.eye(3).to_sparse(), X)] * 600
    assert alike(post.pair_many(calls), calls)


def test_tensors_of_one_dtype_still_share_a_storage(owner):
    stub = tr.create(owner, Sharing, SharingModule)
    assert stub([X.clone()] * 2) == 2
    x = X.clone()
    assert stub([x, x[2:]]) == 2
    assert stub([x, x.view(torch.int32)]) == 1


class Sharing:
    def forward(self, xs: List[Tensor]) -> int: ...


class SharingModule(nn.Module):
    def forward(self, xs: List[Tensor]) -> int:
        xs[0].zero_()
        changed = 0
        for x in xs:
            changed += int((x == 0).all())
        return changed
