"""Gathered calls that fail: all of a batch, or, if the method is idempotent, only those that fail alone."""

from typing import Dict, List

import pytest
import torch
import torch.distributed.rpc as rpc
from torch import Tensor

import torchremote as tr
from torchremote.errors import CallTimeoutError, RemoteError

from .gathering import ScalerModule, held, until_queued

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@tr.remote_scriptable
class Failing:
    @tr.batched(0)
    def once(self, x: Tensor) -> Tensor: ...
    @tr.batched(0)
    @tr.idempotent
    def again(self, x: Tensor) -> Tensor: ...
    @tr.batched(0)
    def total(self, x: Tensor) -> Tensor: ...
    @tr.batched(0)
    @tr.idempotent
    def total_again(self, x: Tensor) -> Tensor: ...
    def hold(self) -> int: ...


class FailingModule(ScalerModule):
    def once(self, x: Tensor) -> Tensor:
        if bool((x < 0).any()):
            raise ValueError("negative")
        return x * 2

    def again(self, x: Tensor) -> Tensor:
        return self.once(x)

    def total(self, x: Tensor) -> Tensor:
        return x.sum(0)

    def total_again(self, x: Tensor) -> Tensor:
        return x.sum(0)


@pytest.fixture(scope="module")
def failing(owner):
    return tr.create(owner, Failing, FailingModule, gather=64)


def outcomes(stub, method, values):
    """Of a call for each value, while the owner is busy: its result, or the first line of its error."""
    found = []
    with torch.no_grad(), held(stub, len(values)):
        pending = [getattr(stub, f"{method}_async")(torch.tensor([[value]])) for value in values]
    for future in pending:
        try:
            found.append(future.wait().tolist())
        except RemoteError as error:
            found.append(str(error).splitlines()[0])
    return found


def test_a_batch_that_fails_runs_again_one_by_one(failing):
    values = [1.0, 2.0, -1.0, 3.0, -2.0]
    error = "Failing.again on owner: ValueError: negative"
    assert outcomes(failing, "again", values) == [[[2.0]], [[4.0]], error, [[6.0]], error]
    assert outcomes(failing, "again", [-1.0]) == [error]
    assert outcomes(failing, "again", [5.0, 6.0]) == [[[10.0]], [[12.0]]]


def test_a_batch_that_fails_fails_for_all(failing):
    found = outcomes(failing, "once", [1.0, -1.0, 2.0])
    assert len(set(found)) == 1
    assert found[0].startswith("Failing.once on owner: the owner made one call of this one and others, and it failed")
    assert "@torchremote.idempotent" in found[0]
    assert found[0].endswith("ValueError: negative")
    assert outcomes(failing, "once", [-1.0]) == ["Failing.once on owner: ValueError: negative"]
    assert outcomes(failing, "once", [1.0, 2.0]) == [[[2.0]], [[4.0]]]


@pytest.mark.parametrize("method", ["total", "total_again"])
def test_a_result_that_has_not_the_dimension_is_refused(failing, method):
    found = outcomes(failing, method, [1.0, 2.0, 3.0])
    assert len(set(found)) == 1
    assert f"Failing.{method}: declared batched along dimension 0, where 3 slices were sent" in found[0]
    assert "of shape [1]" in found[0]


def test_a_call_that_is_given_up_leaves_the_others_alone(failing):
    hasty = tr.with_timeout(failing, 0.02)
    with torch.no_grad(), held(failing, 3):
        pending = [stub.once_async(torch.ones(1, 1)) for stub in (failing, hasty, failing)]
        with pytest.raises(CallTimeoutError):
            pending[1].wait()
    assert [pending[n].wait().tolist() for n in (0, 2)] == [[[2.0]]] * 2


@tr.remote_scriptable
class Store:
    @tr.batched(0)
    @tr.idempotent
    def put(self, x: Tensor, kind: int = 0) -> Tensor: ...
    @tr.batched(0)
    @tr.idempotent
    def count(self, x: Tensor, sizes: List[int], named: Dict[str, List[int]]) -> Tensor: ...
    def get(self) -> Tensor: ...
    def hold(self) -> int: ...


class StoreModule(ScalerModule):
    def __init__(self):
        super().__init__()
        self.last = torch.zeros(1)

    def put(self, x: Tensor, kind: int) -> Tensor:
        if bool((x < 0).any()):
            raise ValueError("negative")
        self.last = x[-1:].clone()
        return x

    def count(self, x: Tensor, sizes: List[int], named: Dict[str, List[int]]) -> Tensor:
        sizes.append(1)
        named["a"].append(1)
        return self.put(x, 0) * (10 * len(sizes) + len(named["a"]))

    def get(self) -> Tensor:
        return self.last


@pytest.fixture(scope="module")
def store(owner):
    return tr.create(owner, Store, StoreModule, gather=64, name="store")


def test_calls_that_run_again_come_before_what_their_stub_sent_later(owner, store):
    other = tr.connect(owner, Store, "store")
    with torch.no_grad():
        for later in (lambda: store.put_async(torch.tensor([2.0]), 1), lambda: store.put_async(torch.tensor([2.0]))):
            with held(store, 5):
                first = [store.put_async(torch.tensor([1.0]))]
                rpc.rpc_sync(owner, until_queued, (2,))  # so that the other stub's call comes next, in the same batch
                fails = other.put_async(torch.tensor([-1.0]))
                rpc.rpc_sync(owner, until_queued, (3,))
                rest = [later(), store.put_async(torch.tensor([3.0]), 2), store.get_async()]
            assert [float(future.wait()) for future in first + rest] == [1.0, 2.0, 3.0, 3.0]
            with pytest.raises(RemoteError, match="negative"):
                fails.wait()
            assert float(store.get()) == 3.0


def test_calls_that_run_again_have_their_own_lists(store):
    with torch.no_grad(), held(store, 3):
        pending = [store.count_async(torch.tensor([value]), [5], {"a": []}) for value in (1.0, 2.0, -1.0)]
    assert [float(future.wait()) for future in pending[:2]] == [21.0, 42.0]
    with pytest.raises(RemoteError, match="negative"):
        pending[2].wait()
