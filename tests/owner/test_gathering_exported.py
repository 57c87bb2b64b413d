"""Gathered calls of exported modules: a joined call may be of a size that no graph is right for."""

import pytest
import torch
import torch.distributed.rpc as rpc
from torch import Tensor, nn
from torch.nn.functional import batch_norm

import torchremote as tr
from torchremote.errors import RemoteError
from torchremote.jit.export import limits_of_module

from .gathering import held

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

MOST_8 = {"forward": {"x": {0: torch.export.Dim("rows", min=1, max=8)}}}


@tr.remote_scriptable
class Rows:
    @tr.batched(0)
    def forward(self, x: Tensor) -> Tensor: ...


class Doubling(nn.Module):
    """Returns the rows, doubled, and behind each the number of rows that it saw."""

    def forward(self, x, **options):
        return torch.cat((x * 2, torch.full((x.shape[0], 1), x.shape[0])), 1)


class Branching(Doubling):
    def forward(self, x, **options):
        return super().forward(x) if x.shape[0] < 6 else super().forward(-x)


class Counting(Doubling):
    """Also notes how many rows it had, in the first column."""

    def __init__(self):
        super().__init__()
        self.register_buffer("rows", torch.zeros(()))

    def forward(self, x, **options):
        self.rows.add_(x.shape[0])
        return super().forward(x) + 0 * self.rows


def exported(cls, shapes=MOST_8, rows=3):
    return tr.exported(cls(), Rows, {"forward": (torch.ones(rows, 4),)}, dynamic_shapes=shapes)


def gathered(scaler, stub, sizes):
    """Of calls with so many rows, made while the owner is busy: the rows that each one's call of the module had."""
    with torch.no_grad(), held(scaler, len(sizes), other=stub):
        pending = [stub.forward_async(torch.full((rows, 4), float(n))) for n, rows in enumerate(sizes)]
    found = []
    for n, (rows, future) in enumerate(zip(sizes, pending, strict=True)):
        try:
            result = future.wait()
        except RemoteError as error:
            found.append(str(error))
        else:
            assert torch.equal(result[:, :4], torch.full((rows, 4), 2.0 * n))
            found.append(int(result[0, 4]))
    return found


def test_calls_that_fit_one_by_one_succeed_when_they_are_gathered(owner, scaler):
    stub = tr.create(owner, Rows, exported(Doubling), gather=8)
    assert gathered(scaler, stub, [3, 3, 3]) == [3, 3, 3]
    assert gathered(scaler, stub, [3, 4]) == [7, 7]  # they are one call where that is right
    first, too_many, last = gathered(scaler, stub, [3, 9, 1])
    assert [first, last] == [3, 1]
    refused = "Rows.forward on owner: x: exported for float32 [>= 1 and <= 8, 4]; came float32 [9, 4]"
    assert too_many.startswith(refused)


def test_calls_of_a_method_that_compares_its_size(owner, scaler):
    stub = tr.create(owner, Rows, Branching, gather=8, examples={"forward": (torch.ones(3, 4),)})
    assert gathered(scaler, stub, [3, 3, 3]) == [3, 3, 3]
    assert gathered(scaler, stub, [3, 2]) == [5, 5]


@pytest.mark.parametrize("in_turn", [False, True])
def test_a_method_that_changes_its_module_never_runs_twice(owner, scaler, in_turn):
    stub = tr.create(owner, Rows, exported(Counting), gather=8, in_turn=in_turn)
    assert gathered(scaler, stub, [3, 3, 3, 1]) == [3, 3, 3, 1]
    assert float(tr.at_owner(stub).state_dict()["rows"]) == 10


def test_one_without_a_limit_is_gathered_also_if_it_changes_itself(owner, scaler):
    stub = tr.create(owner, Rows, exported(Counting, None), gather=8)
    assert gathered(scaler, stub, [3, 3, 3, 1]) == [10] * 4


def test_the_limits_are_kept_when_the_module_is_saved(owner, scaler, tmp_path):
    torch.jit.save(exported(Doubling), tmp_path / "saved.pt")
    stub = tr.create(owner, Rows, torch.jit.load(tmp_path / "saved.pt"), gather=8, name="limited")
    assert gathered(scaler, stub, [3, 3, 3]) == [3, 3, 3]
    tr.create(owner, Rows, exported(Doubling, None), gather=8, name="limited", if_exists="replace")
    assert gathered(scaler, stub, [3, 3, 3]) == [9, 9, 9]
    rpc.rpc_sync(owner, tr.withdraw, ("limited",))


def test_a_joined_call_that_is_refused_says_that_it_was_joined(owner):
    stub = tr.create(owner, Rows, exported(Doubling))
    calls = [(torch.ones(3, 4),)] * 3
    for many in (lambda: stub.forward_many(calls), lambda: stub.forward_many_async(calls).wait()):
        with pytest.raises(RemoteError) as caught:
            many()
        assert str(caught.value).startswith(
            "Rows.forward_many on owner: its calls were sent as one call of concatenated tensors, and that was refused "
            "(return_exceptions=True sends each by itself): x: exported for float32 [>= 1 and <= 8, 4]; came float32 "
            "[9, 4]"
        )
    assert [len(y) for y in stub.forward_many(calls, return_exceptions=True)] == [3] * 3
    assert [len(y) for y in stub.forward_many(calls[:2])] == [3] * 2


class Asking(nn.Module):
    def __init__(self, asks):
        super().__init__()
        self.asks, self.norm = asks, nn.BatchNorm1d(4)

    def forward(self, x):
        return self.asks(self, x)


@pytest.mark.parametrize(
    ("asks", "rows", "limits"),
    [
        (lambda self, x: x * 2, 3, (1, False)),
        (lambda self, x: x * 2 if x.shape[0] > 1 else x * 3, 3, (1, False)),  # 1 has a graph of its own
        (lambda self, x: x * 2 if x.shape[0] != 0 else x * 3, 3, (1, False)),
        (lambda self, x: x * 2 if x.shape[0] < 6 else x * 3, 3, (0, 1, False)),
        (lambda self, x: x * 2 if x.shape[0] % 5 else x * 3, 3, (0, 1, False)),
        (lambda self, x: x.view(3, 2, 2), 3, (0, 1, False)),
        (lambda self, x: self.norm(x), 3, (1, True)),
        (lambda self, x: batch_norm(x, self.norm.running_mean, self.norm.running_var), 3, (1, False)),
        (lambda self, x: x * 2 if 3 * x.shape[0] * x.shape[1] > 5 else x * 3, 3, (1, False)),
        (lambda self, x: x * 2 if x.shape[0] * x.shape[0] != 4 else x * 3, 3, (0, 1, False)),
        (lambda self, x: x * 2 if x.shape[0] * 3 != 9 else x * 3, 4, (0, 1, False)),  # 3 is no sum of such, but 1 + 2
    ],
)
def test_limits(asks, rows, limits):
    *first, changes = limits
    dynamic = {"forward": {"x": {0: torch.export.Dim.AUTO}}}
    module = tr.exported(Asking(asks), Rows, {"forward": (torch.ones(rows, 4),)}, dynamic_shapes=dynamic)
    dimensions = frozenset(first) | {n - 2 for n in first}
    assert limits_of_module(module) == {"forward": (dimensions, changes)}


def test_a_module_without_limits_says_nothing():
    module = exported(Doubling, None)
    assert limits_of_module(module) == {}
    assert not hasattr(module, "torchremote_limits")
