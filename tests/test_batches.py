"""`<m>_many`: many calls in one message."""

from typing import Dict, List, Tuple

import pytest
import torch
import torch.distributed.autograd as dist_autograd
import torch.distributed.rpc as rpc
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import ArgumentError, RemoteError, StaleStubError
from torchremote.jit.tensors import MOST_BYTES, MOST_CALLS

from . import zoo


class Log(nn.Module):
    """Remembers its calls; fails when it is told to."""

    seen: List[int]

    def __init__(self):
        super().__init__()
        self.seen = []

    def add(self, number: int, fails: bool) -> int:
        if fails:
            raise ValueError("told to fail")
        self.seen.append(number)
        return number * 2

    def numbers(self) -> List[int]:
        return self.seen

    def empty(self) -> None:
        self.seen.clear()


class Logging:
    def add(self, number: int, *, fails: bool = False) -> int: ...
    def numbers(self) -> List[int]: ...
    def empty(self) -> None: ...


@pytest.fixture(scope="module")
def encoder(owner):
    return tr.create(owner, zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": 3})


@pytest.fixture
def log(owner):
    return tr.create(owner, Logging, Log)


@pytest.fixture
def xs():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(rows, 8, generator=generator) for rows in (4, 1, 0, 7)]


def test_results_come_in_the_order_of_the_calls(encoder, xs):
    local = zoo.LinearEncoder(seed=3)
    for results in (
        encoder.forward_many([(x, 2.0) for x in xs]),
        encoder.forward_many_async([(x, 2.0) for x in xs]).wait(),
        encoder.forward_many([(x, 2.0) for x in xs], return_exceptions=True),
        encoder.forward_many_async(((x, 2.0) for x in xs), return_exceptions=True).wait(),
    ):
        for x, result in zip(xs, results, strict=True):
            assert torch.equal(result, local(x, 2.0))


def test_defaults_and_keyword_only_arguments_have_a_place(encoder, xs):
    x = xs[0]
    assert torch.equal(*encoder.forward_many([(x,), (x, 1.0)]))
    three, two, one, again = encoder.topk_many([(x, 3), (x,), {"x": x, "k": 1}, [x, 1]])
    assert [part[0].shape[1] for part in (three, two, one, again)] == [3, 2, 1, 1]


def test_without_calls_arguments_or_results(encoder, log):
    assert encoder.forward_many([]) == [] == encoder.forward_many_async([]).wait()
    assert encoder.forward_many([], return_exceptions=True) == []
    assert log.numbers_many([(), (), {}]) == [[], [], []]
    assert log.empty_many([()] * 3) == [None] * 3


@pytest.mark.parametrize("count", [MOST_CALLS, MOST_CALLS + 1, 2 * MOST_CALLS + 500])
def test_more_calls_than_a_message_carries_keep_their_order(log, count):
    assert log.add_many([(n,) for n in range(count)]) == [2 * n for n in range(count)]
    assert log.numbers() == list(range(count))


def test_more_bytes_than_a_message_carries(encoder):
    large = [torch.full((MOST_BYTES // 64, 8), float(n)) for n in range(5)]  # two of them fill a message
    for x, (values, _) in zip(large, encoder.topk_many([(x, 1) for x in large]), strict=True):
        assert torch.equal(values, x[:, :1])


@pytest.mark.parametrize("failing", [0, 3, MOST_CALLS + 7])
@pytest.mark.parametrize("waits", [True, False])
def test_the_first_failure_ends_a_batch_and_says_which_call_it_was(log, failing, waits):
    calls = [(n, n >= failing) for n in range(failing + 3)]
    with pytest.raises(RemoteError, match=rf"^Logging.add_many on owner: calls\[{failing}\]: .*told to fail"):
        if waits:
            log.add_many(calls)
        else:
            log.add_many_async(calls).wait()
    assert log.numbers() == list(range(failing))


def test_with_a_result_for_every_call_a_failure_is_one_of_them(log):
    for results in (
        log.add_many([(0,), (1, True), (2,), ("two",), ()], return_exceptions=True),
        log.add_many_async([(0,), (1, True), (2,), ("two",), ()], return_exceptions=True).wait(),
    ):
        assert results[0] == 0 and results[2] == 4
        assert isinstance(results[1], RemoteError) and "told to fail" in str(results[1])
        assert isinstance(results[3], ArgumentError) and "Logging.add.number: 'two' is no int" in str(results[3])
        assert isinstance(results[4], ArgumentError) and "missing: number" in str(results[4])


def test_after_many_other_batches_it_is_not_known_which_call_failed(log):
    future = log.add_many_async([(0,), (1, True)])
    for _ in range(300):
        log.add_many([(5,)])
    with pytest.raises(RemoteError, match="^Logging.add_many on owner: ValueError: told to fail"):
        future.wait()


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        (torch.ones(2, 2), "calls: Tensor is no list of calls"),
        (5, "calls: int is no list"),
        ([torch.ones(1)], r"calls\[0\]: Tensor is no tuple of arguments"),
        ([(torch.ones(1),), (torch.ones(1), "a")], r"calls\[1\].scale: 'a' is no float"),
        ([(torch.ones(1), None)], r"calls\[0\].scale: None is no float"),
        ([(torch.ones(1), 1.0, 2)], r"calls\[0\]: 3 arguments, and forward has 2"),
        ([()], r"calls\[0\]: missing: x; it is forward\(x: Tensor, scale: float = 1.0\)"),
        ([{"x": torch.ones(1), "y": 1}], r"calls\[0\]: no such argument: y"),
        ([(torch.ones(1, device="meta"),)], r"x: a meta tensor has no values"),
    ],
)
def test_what_is_no_call_is_refused_and_nothing_is_sent(encoder, calls, message):
    for send in (encoder.forward_many, encoder.forward_many_async):
        with pytest.raises(ArgumentError, match=f"^Encoder.forward_many.{message}"):
            send(calls)


@pytest.mark.parametrize("count", [1, MOST_CALLS])  # in one message, and in several
def test_gradients_flow_through_a_batch(encoder, xs, count):
    local = zoo.LinearEncoder(seed=3)
    inputs = [x.clone().requires_grad_() for x in xs]
    sum(local(x, 2.0).sum() for x in inputs).backward()
    with dist_autograd.context() as context:
        results = encoder.forward_many([(x, 2.0) for x in inputs] * count)
        dist_autograd.backward(context, [sum(result.sum() for result in results)])
        gradients = dist_autograd.get_gradients(context)
    for x in inputs:
        assert torch.allclose(gradients[x], x.grad * count, rtol=1e-4)


def test_a_batch_for_a_module_that_is_gone(owner):
    stub = tr.create(owner, Logging, Log, name="short-lived log")
    rpc.rpc_sync(owner, tr.withdraw, ("short-lived log",))
    for send in (stub.add_many, lambda calls: stub.add_many_async(calls).wait()):
        with pytest.raises(StaleStubError, match="^Logging.add_many on owner: its module was withdrawn"):
            send([(1,)])


# -- in TorchScript


class Batching(nn.Module):
    log: tr.remote_interface(Logging)

    def __init__(self, log):
        super().__init__()
        self.log = log

    def forward(self, count: int) -> Tuple[List[int], List[int]]:
        later = self.log.add_many_async([(n, False) for n in range(count)])
        now = self.log.add_many([(n, False) for n in range(count, 2 * count)])
        return later.wait(), now


@pytest.mark.parametrize("count", [3, MOST_CALLS + 1])
def test_a_scripted_model_makes_many_calls(log, count):
    later, now = torch.jit.script(Batching(log))(count)
    assert later == [2 * n for n in range(count)]
    assert now == [2 * n for n in range(count, 2 * count)]


class Painter:
    def paint(
        self, color: zoo.Color, pair: zoo.Pair, by_name: Dict[str, List[Tensor]], dtype: torch.dtype = torch.float64
    ) -> Tuple[zoo.Color, zoo.Pair]: ...


class Painting(nn.Module):
    def paint(
        self, color: zoo.Color, pair: zoo.Pair, by_name: Dict[str, List[Tensor]], dtype: int
    ) -> Tuple[zoo.Color, zoo.Pair]:
        total = torch.zeros(1)
        for tensors in by_name.values():
            for tensor in tensors:
                total = total + tensor
        return color, zoo.Pair(pair.a + total, pair.b + 1)


def test_values_that_cross_as_something_else(owner):
    stub = tr.create(owner, Painter, Painting)
    one = torch.ones(1)
    (red, first), (green, second) = stub.paint_many(
        [
            (zoo.Color.RED, zoo.Pair(one, 1), {"a": [one, one]}),
            {"color": zoo.Color.GREEN, "pair": (one, 5), "by_name": {}, "dtype": torch.int8},
        ]
    )
    assert (red, first, green, second) == (zoo.Color.RED, (torch.tensor([3.0]), 2), zoo.Color.GREEN, (one, 6))
    assert isinstance(first, zoo.Pair)
    with pytest.raises(ArgumentError, match=r"^Painter.paint_many.calls\[0\].color: 1 is no .*Color"):
        stub.paint_many([(1, zoo.Pair(one, 1), {})])
