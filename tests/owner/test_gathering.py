"""Calls that the owner gathers: many callers' calls become one, and nobody can tell but by the time."""

import threading
from concurrent.futures import ThreadPoolExecutor

import hypothesis
import pytest
import torch
from hypothesis import strategies
from torch import Tensor

import torchremote as tr
from torchremote.errors import RemoteError
from torchremote.jit.runtime import gathering

from .. import zoo
from ..caller.test_joined import Joined, Joining, Observed, x
from ..waiting import holding_the_gil
from .gathering import Scaler, ScalerModule, held, ones, rows_seen

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_calls_become_one(scaler):
    with torch.no_grad():
        assert rows_seen(scaler, [(ones(),)] * 40) == [40] * 40


def test_no_more_calls_become_one_than_were_asked_for(owner):
    stub = tr.create(owner, Scaler, ScalerModule, gather=8)
    with torch.no_grad():
        assert sorted(rows_seen(stub, [(ones(2),)] * 20)) == [8] * 4 + [16] * 16


def test_other_arguments_group_by_value(scaler):
    with torch.no_grad():
        calls = [(ones(), float(n % 3)) for n in range(30)]
        assert rows_seen(scaler, calls) == [10] * 30
        zeros = [(ones(), 0.0), (ones(), -0.0)] * 4
        assert rows_seen(scaler, zeros) == [4] * 8  # which a method may tell apart


def test_many_batches_may_be_open(scaler):
    with torch.no_grad():
        kinds = gathering.MOST_OPEN + 5
        assert rows_seen(scaler, [(ones(), float(n)) for n in range(kinds)]) == [1] * kinds
        assert sorted(rows_seen(scaler, [(ones(), float(n % kinds)) for n in range(3 * kinds)]))[-1] <= 3


shapes = strategies.sampled_from([(1, 3), (2, 3), (0, 3), (4, 3), (3,), (1, 2, 3), (2, 2, 3)])
calls = strategies.lists(strategies.tuples(shapes, strategies.sampled_from([1.0, -2.0, float("nan")])), max_size=24)


@hypothesis.settings(max_examples=40, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(calls)
def test_results_are_those_of_calls_one_by_one(scaler, calls):
    local = ScalerModule()
    tensors = [torch.arange(float(torch.Size(shape).numel()), dtype=torch.float64).view(shape) for shape, _ in calls]
    with torch.no_grad():
        with held(scaler, len(calls)):
            pending = [scaler.forward_async(x, scale) for x, (_, scale) in zip(tensors, calls, strict=True)]
        for future, x, (_, scale) in zip(pending, tensors, calls, strict=True):
            expected = local(x, scale)[0]
            assert torch.equal(future.wait()[0].nan_to_num(7.0), expected.nan_to_num(7.0))
            assert future.wait()[0].shape == expected.shape


additions = strategies.tuples(
    strategies.sampled_from([(2, 1), (2, 3), (1, 1), (0,), ()]),
    strategies.sampled_from([(2, 1), (2, 3), (1,), ()]),
    strategies.sampled_from(["a", "bb"]),
    strategies.sampled_from([torch.float32, torch.int64, torch.bfloat16]),
    strategies.booleans(),
)


@hypothesis.settings(max_examples=40, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(strategies.lists(additions, max_size=16))
def test_tensors_that_do_not_fit_go_by_themselves(scaler, calls):
    def tensors(shape, other, dtype, is_sparse):
        x, y = torch.ones(shape, dtype=dtype), torch.full(other, 5, dtype=dtype)
        return (x.to_sparse() if is_sparse and shape == other else x), y

    with torch.no_grad():
        pending = []
        with held(scaler, len(calls)):
            for shape, other, name, dtype, is_sparse in calls:
                x, y = tensors(shape, other, dtype, is_sparse)
                pending.append((scaler.add_async(x, y, name), x, y, name))
        for future, x, y, name in pending:
            try:
                expected = ScalerModule().add(x, y, name)
            except RuntimeError:
                with pytest.raises(RemoteError, match=r"Scaler.add on owner: "):
                    future.wait()
            else:
                found = future.wait()
                assert torch.equal(found.to_dense(), expected.to_dense())
                assert found.dtype == expected.dtype


def test_callers_in_many_threads_with_many_stubs(owner, scaler):
    copies = [tr.with_timeout(scaler, 60) for _ in range(4)]

    def work(number):
        with torch.no_grad():
            pending = []
            for n in range(300):
                pending.append(copies[number].forward_async(ones(1 + n % 3) * n, float(number)))
                if len(pending) == 32:
                    check(pending, n - 31)
                    pending = []
        return True

    def check(pending, first):
        for n, future in enumerate(pending, first):
            expected = ScalerModule()(ones(1 + n % 3) * n, float(numbers[threading.get_ident()]))[0]
            assert torch.equal(future.wait()[0], expected)

    numbers = {}

    def start(number):
        numbers[threading.get_ident()] = number
        return work(number)

    with ThreadPoolExecutor(4) as pool:
        barrier = threading.Barrier(4)
        assert all(pool.map(lambda number: barrier.wait() >= 0 and start(number), range(4)))


def as_one(scaler, stub, method, calls, joined=True):
    """Makes calls while the owner is busy, and compares: results, and how many calls the module saw."""
    with torch.no_grad():
        for _ in range(3):  # TorchScript optimises
            getattr(stub, method)(*calls[0])
        stub.count()
        with held(scaler, len(calls), stub):
            pending = [getattr(stub, f"{method}_async")(*call) for call in calls]
        found = [future.wait() for future in pending]
        assert stub.count() == (1 if joined else len(calls))
        for call, result in zip(calls, found, strict=True):
            assert tr.testing.same(result, getattr(stub, method)(*call))
        stub.count()


def test_all_kinds_that_can_be_joined(owner, scaler):
    # Without an order: a call that overtakes another one steps aside, and may come too late for the batch.
    joining = tr.create(owner, Joining, Joined, gather=64, in_turn=False)
    as_one(scaler, joining, "masked", [(x(1),), (x(3, 2.0),)])
    as_one(scaler, joining, "masked", [(x(1), x(1, 0.0)), (x(2, 3.0), x(2))])
    as_one(scaler, joining, "masked", [(x(1), x(1)), (x(2),)], joined=False)
    nested = [({"a": [x(n), x(n, 2.0)], "b": []}, [0.5, 0.25], ("n", 1)) for n in (1, 2, 0)]
    as_one(scaler, joining, "nested", nested)
    as_one(scaler, joining, "nested", [nested[0], ({"a": nested[0][0]["a"]}, *nested[0][1:])], joined=False)
    as_one(scaler, joining, "nested", [({"a": []}, [1.0], ("n", 1))] * 2, joined=False)  # without a tensor
    seen = [Observed(x(n), zoo.Color.RED, [None, x(n)]) for n in (1, 2)]
    as_one(scaler, joining, "observe", [(one, x(len(one.image))) for one in seen])
    as_one(scaler, joining, "observe", [(seen[0],), (seen[1]._replace(kind=zoo.Color.GREEN),)], joined=False)


def test_the_owners_python_takes_no_part(owner, scaler):
    with torch.no_grad():
        scaler(ones())
        holding = holding_the_gil(owner, 4.0)
        pending = [scaler.forward_async(ones()) for _ in range(50)]
        assert all(future.wait()[0][0, 0] == 7 for future in pending)
        assert not holding.done()
    holding.wait()


@tr.remote_scriptable
class Counting:
    @tr.batched(0)
    def width(self, x: Tensor) -> Tensor: ...
    @tr.batched(-1)
    def sparse(self, x: Tensor, dense: int = 0) -> Tensor: ...
    def hold(self) -> int: ...


class CountingModule(ScalerModule):
    def width(self, x: Tensor) -> Tensor:
        return torch.full([x.size(0)], x.size(0))

    def sparse(self, x: Tensor, dense: int) -> Tensor:
        return x.to_sparse(x.dim() - dense)


@pytest.fixture(scope="module")
def counting(owner):
    with torch.no_grad():
        return tr.create(owner, Counting, CountingModule, gather=8)


def test_a_call_that_seems_large_is_in_no_batch(counting):
    large = torch.ones(1).expand(10**13)
    with torch.no_grad(), held(counting, 3):
        pending = [counting.width_async(x) for x in (torch.ones(1), large[: 2**25], torch.ones(2))]
    assert [future.wait()[0] for future in pending] == [3, 2**25, 3]


@pytest.mark.parametrize("dense", [0, 1])
def test_results_may_be_sparse(counting, dense):
    given = [torch.eye(3), torch.zeros(3, 2), torch.arange(3.0)[:, None], torch.empty(3, 0), torch.eye(3) - 2]
    with torch.no_grad():
        with held(counting, len(given)):
            pending = [counting.sparse_async(x, dense) for x in given]
        for results in ([future.wait() for future in pending], counting.sparse_many([(x, dense) for x in given])):
            for x, result in zip(given, results, strict=True):
                assert result.is_coalesced()
                assert torch.equal(result.to_dense(), x)
