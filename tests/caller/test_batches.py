"""`<m>_many`: many calls in one message."""

import gc
from typing import Any, Dict, List, Tuple

import pytest
import torch
import torch.distributed.autograd as dist_autograd
import torch.distributed.rpc as rpc
from torch import Tensor, nn

import torchremote as tr
from torchremote.caller.calls import batches
from torchremote.errors import ArgumentError, InterfaceError, RemoteError, StaleStubError
from torchremote.jit.runtime.batches import MOST_BYTES, MOST_CALLS
from torchremote.link.failures import FAILURES

from .. import zoo

ONE = torch.ones(1, 8)


def freed():
    tensor = torch.ones(200, 8)
    tensor.untyped_storage().resize_(0)
    return tensor


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

    def twice(self, number: int, fails: bool) -> int:
        """The same without a memory, for calls that run at the same time: TorchScript's lists are for one thread."""
        if fails:
            raise ValueError("told to fail")
        return number * 2

    def numbers(self) -> List[int]:
        return self.seen

    def empty(self) -> None:
        self.seen.clear()


class Logging:
    def add(self, number: int, *, fails: bool = False) -> int: ...
    def twice(self, number: int, *, fails: bool = False) -> int: ...
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
    send = log.add_many if waits else lambda calls: log.add_many_async(calls).wait()
    with pytest.raises(RemoteError, match=rf"^Logging.add_many on owner: calls\[{failing}\]: .*told to fail"):
        send(calls)
    assert log.numbers() == list(range(failing))


def test_with_a_result_for_every_call_a_failure_is_one_of_them(log):
    for results in (
        log.twice_many([(0,), (1, True), (2,), ("two",), ()], return_exceptions=True),
        log.twice_many_async([(0,), (1, True), (2,), ("two",), ()], return_exceptions=True).wait(),
    ):
        assert results[0] == 0
        assert results[2] == 4
        assert isinstance(results[1], RemoteError)
        assert "told to fail" in str(results[1])
        assert isinstance(results[3], ArgumentError)
        assert "Logging.twice.number: 'two' is no int" in str(results[3])
        assert isinstance(results[4], ArgumentError)
        assert "missing: number" in str(results[4])


@pytest.mark.parametrize("waits", [True, False])
def test_after_many_other_batches_it_is_not_known_which_call_failed(log, monkeypatch, waits):
    def ask(*question, **limit):
        for _ in range(300):
            log.add_many([(5,)])
        return ask_later(*question, **limit)

    ask_later = batches.ask_later
    monkeypatch.setattr(batches, "ask_later", ask)
    send = log.add_many if waits else lambda calls: log.add_many_async(calls).wait()
    with pytest.raises(RemoteError, match="^Logging.add_many on owner: ValueError: told to fail"):
        send([(0,), (1, True)])


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        (torch.ones(2, 2), "calls: Tensor is no list of calls"),
        (5, "calls: int is no list"),
        ([torch.ones(1)], r"calls\[0\]: Tensor is no tuple of arguments"),
        ([(torch.ones(1),), (torch.ones(1), "a")], r"calls\[1\].scale: 'a' is no float"),
        ([(torch.ones(1), 10**400)], r"calls\[0\].scale: "),
        ([(torch.ones(1), None)], r"calls\[0\].scale: None is no float"),
        ([(torch.ones(1), 1.0, 2)], r"calls\[0\]: 3 arguments, and forward takes 2; it is forward"),
        ([()], r"calls\[0\]: missing: x; it is forward\(x: Tensor, scale: float = 1.0\)"),
        ([{"x": torch.ones(1), "y": 1}], r"calls\[0\]: no such argument: y"),
        ([(ONE,), (ONE.to("meta"),)], r"calls\[1\]: a meta tensor has no values"),
        ([(freed(),)], r"calls\[0\]: a tensor without storage of its own"),
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
        with pytest.raises(StaleStubError, match="^Logging.add_many on owner: its module is gone"):
            send([(1,)])


# -- in TorchScript


class Batching(nn.Module):
    log: tr.remote_interface(Logging)

    def __init__(self, log):
        super().__init__()
        self.log = log

    def forward(self, count: int) -> Tuple[List[int], List[int]]:
        later = self.log.twice_many_async([(n, False) for n in range(count)])
        now = self.log.twice_many([(n, False) for n in range(count, 2 * count)])
        return later.wait(), now


class Sending(nn.Module):
    log: tr.remote_interface(Logging)

    def __init__(self, log):
        super().__init__()
        self.log = log

    def forward(self, count: int) -> torch.jit.Future[List[int]]:
        return self.log.add_many_async([(n, False) for n in range(count)])


def test_a_module_lives_as_long_as_a_batch_that_is_sent_in_several_messages(owner):
    model = torch.jit.script(Sending(tr.create(owner, Logging, Log)))
    future = model(20 * MOST_CALLS)
    del model
    gc.collect()
    assert future.wait() == [2 * n for n in range(20 * MOST_CALLS)]


def test_calls_that_cannot_be_listed_are_not_sent(log):
    def calls():
        yield (1,)
        raise KeyError("no more")

    for return_exceptions in (False, True):
        with pytest.raises(KeyError):
            log.add_many(calls(), return_exceptions=return_exceptions)
    assert log.numbers() == []


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


# -- batched methods


class Joining:
    @tr.batched(0)
    def forward(self, x: Tensor, *, scale: float = 1.0) -> Tensor: ...
    @tr.batched(-1)
    def both(self, x: Tensor, color: zoo.Color, y: Tensor) -> Tuple[Tensor, Tensor]: ...
    @tr.batched()
    def pair(self, x: Tensor) -> zoo.Two: ...
    @tr.batched(0)
    def wrong(self, x: Tensor) -> Tensor: ...
    def seen(self) -> List[List[int]]: ...


class Joined(nn.Module):
    """Remembers the shapes that it was called with."""

    shapes: List[List[int]]

    def __init__(self):
        super().__init__()
        self.shapes = []

    def forward(self, x: Tensor, scale: float) -> Tensor:
        self.shapes.append(x.shape)
        if bool((x < 0).any()):
            raise ValueError("negative")
        return x * scale

    def both(self, x: Tensor, color: zoo.Color, y: Tensor) -> Tuple[Tensor, Tensor]:
        self.shapes.append(x.shape)
        return (x + y, x) if color == zoo.Color.RED else (y, x)

    def pair(self, x: Tensor) -> zoo.Two:
        return zoo.Two(x + 1, x + 2)

    def wrong(self, x: Tensor) -> Tensor:
        return x.sum(0)

    def seen(self) -> List[List[int]]:
        seen, self.shapes = self.shapes, torch.jit.annotate(List[List[int]], [])
        return seen


class Forgetting(Joined):
    def forward(self, x: Tensor, scale: float) -> Tensor:
        if bool((x < 0).any()):
            raise ValueError("negative")
        return x * scale


@pytest.fixture
def joining(owner):
    return tr.create(owner, Joining, Joined)


def test_many_calls_of_a_batched_method_are_one(joining, xs):
    xs = [x.abs() for x in xs]
    for send in (joining.forward_many, lambda calls: joining.forward_many_async(calls).wait()):
        results = send([(x, 2.0) for x in xs])
        assert joining.seen() == [[12, 8]]
        for x, result in zip(xs, results, strict=True):
            assert torch.equal(result, x * 2)


def test_along_another_dimension_and_with_several_tensors(joining):
    calls = [(torch.full((2, n), float(n)), zoo.Color.RED, torch.ones(2, n)) for n in (1, 3)]
    (a, b), (c, d) = joining.both_many(calls)
    assert joining.seen() == [[2, 4]]
    assert torch.equal(a, torch.full((2, 1), 2.0))
    assert torch.equal(b, torch.ones(2, 1))
    assert torch.equal(c, torch.full((2, 3), 4.0))
    assert torch.equal(d, torch.full((2, 3), 3.0))
    first, second = joining.pair_many([(torch.zeros(1),), (torch.ones(2),)])
    assert isinstance(first, zoo.Two)
    assert torch.equal(second.b, torch.full((2,), 3.0))


ONE = torch.ones(1, 8)


@pytest.mark.parametrize(
    ("calls", "shapes"),
    [
        ([(ONE, 1.0), (ONE, 2.0)], [[1, 8], [1, 8]]),  # another argument differs
        ([(ONE, 0.0), (ONE, -0.0)], [[1, 8], [1, 8]]),
        ([(ONE,), (torch.ones(1, 7),)], [[1, 8], [1, 7]]),
        ([(ONE,), (torch.ones(8),)], [[1, 8], [8]]),
        ([(ONE,), (ONE.double(),)], [[1, 8], [1, 8]]),
        ([(torch.tensor(1.0),), (torch.tensor(2.0),)], [[], []]),  # no such dimension
        ([(ONE.to_sparse(),), (ONE.to_sparse(),)], None),
        (
            [(torch.ones(MOST_BYTES // 8),), (torch.ones(MOST_BYTES // 4 + 1),)],
            [[MOST_BYTES // 8], [MOST_BYTES // 4 + 1]],
        ),
    ],
)
def test_what_cannot_be_joined_is_many_calls(joining, calls, shapes):
    if shapes is None:
        with pytest.raises(RemoteError):  # the module cannot compare sparse tensors
            joining.forward_many(calls)
        shapes = [[1, 8]]
    else:
        for call, result in zip(calls, joining.forward_many(calls), strict=True):
            assert result.dtype == call[0].dtype
            assert torch.equal(result, call[0] * (call[1] if len(call) > 1 else 1.0))
    assert joining.seen() == shapes


def test_tensors_of_one_call_that_do_not_match_are_not_joined(joining):
    with pytest.raises(RemoteError, match=r"^Joining.both_many on owner: calls\[0\]"):
        joining.both_many(
            [(torch.ones(2, 2), zoo.Color.RED, torch.ones(2, 3)), (torch.ones(2, 3), zoo.Color.RED, torch.ones(2, 2))]
        )


def test_failures_of_a_joined_call(owner, joining):
    with pytest.raises(RemoteError, match="^Joining.forward_many on owner: ValueError: negative"):
        joining.forward_many([(ONE,), (-ONE,)])
    with pytest.raises(
        RemoteError, match=r"Joining.wrong: declared batched along dimension 0, where 2 slices were sent"
    ):
        joining.wrong_many([(ONE,), (ONE,)])
    # Calls that run at the same time, on several threads: a list that they append to would be torn.
    results = tr.create(owner, Joining, Forgetting).forward_many([(ONE,), (-ONE,)], return_exceptions=True)
    assert torch.equal(results[0], ONE)
    assert isinstance(results[1], RemoteError)


@pytest.mark.parametrize("bad", [freed, lambda: ONE.to("meta")])
def test_a_tensor_that_cannot_be_sent_is_not_joined(joining, bad):
    with pytest.raises(ArgumentError, match=r"^Joining.forward_many.calls\[1\]: a "):
        joining.forward_many([(ONE,), (bad(),)])
    with pytest.raises(FAILURES, match=r"cannot send Joining.forward_many.x: a "):
        torch.jit.script(JoinsInScript(joining))([ONE, bad()])
    assert joining.seen() == []


def test_gradients_flow_through_a_joined_call(joining):
    inputs = [torch.ones(n, 2, requires_grad=True) for n in (1, 2)]
    with dist_autograd.context() as context:
        first, second = joining.forward_many([(x, 3.0) for x in inputs])
        dist_autograd.backward(context, [first.sum() + 2 * second.sum()])
        gradients = dist_autograd.get_gradients(context)
    for factor, x in zip((3.0, 6.0), inputs, strict=True):
        assert torch.equal(gradients[x], torch.full_like(x, factor))


class JoinsInScript(nn.Module):
    encoder: tr.remote_interface(Joining)

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, xs: List[Tensor]) -> List[Tensor]:
        return self.encoder.forward_many([(x, 2.0) for x in xs])


def test_a_scripted_model_joins_calls(joining):
    first, second = torch.jit.script(JoinsInScript(joining))([ONE, ONE + 1])
    assert joining.seen() == [[2, 8]]
    assert torch.equal(second, 2 * ONE + 2)
    assert torch.equal(first, 2 * ONE)


def refused(**members):
    return type("Refused", (), {"__module__": __name__, **members})


def test_what_cannot_be_batched_is_refused_when_it_is_decorated():
    @tr.batched(0)
    def no_tensor(self, k: int) -> Tensor: ...
    @tr.batched(0)
    def anything(self, x: Tensor, value: Dict[str, Any]) -> Tensor: ...
    @tr.batched(0)
    def keys(self, x: Dict[Tensor, int]) -> Tensor: ...
    @tr.batched(0)
    def a_complex(self, x: Tensor, z: List[complex]) -> Tensor: ...
    @tr.batched(0)
    def a_number(self, x: Tensor) -> Tuple[Tensor, int]: ...
    @tr.batched(0)
    def nothing(self, x: Tensor) -> None: ...

    for method, message in (
        (no_tensor, r"Refused.forward: batched, and has no Tensor to concatenate"),
        (anything, r"Refused.forward.value: Any can be neither concatenated"),
        (keys, r"Refused.forward.x: Dict\[Tensor, int\] can be neither concatenated"),
        (a_complex, r"Refused.forward.z: complex can be neither concatenated"),
        (a_number, r"Refused.forward.return: Tuple\[Tensor, int\] cannot be split"),
        (nothing, r"Refused.forward.return: None cannot be split"),
    ):
        with pytest.raises(InterfaceError, match=message):
            tr.remote_scriptable(refused(forward=method))
    for dim in ("x", True, 10**10, -65):
        with pytest.raises(InterfaceError, match="not the number of a dimension"):
            tr.batched(dim)
    with pytest.raises(InterfaceError, match="for methods, and not for <class"):
        tr.batched(0)(Log)


def test_an_archive_keeps_what_is_batched(owner, tmp_path, xs):
    stub = tr.create(owner, Joining, Joined, name="joined")
    torch.jit.save(stub, tmp_path / "stub.pt")
    loaded = tr.load(tmp_path / "stub.pt")
    loaded.forward_many([(x.abs(),) for x in xs])
    assert stub.seen() == [[12, 8]]
    rpc.rpc_sync(owner, tr.withdraw, ("joined",))
