"""Results that are the module's own tensors, lists and dicts: each call in turn has them as they were at its end."""

from typing import Dict, List, Optional, Tuple

import pytest
import torch
import torch.distributed.autograd as dist_autograd
from torch import Tensor, nn

import torchremote as tr

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

Nested = Tuple[Dict[str, List[int]], Optional[List[int]], List[Tensor]]


@tr.remote_scriptable
class Own:
    def forward(self) -> Tensor: ...
    def expanded(self, rows: int) -> Tensor: ...
    def sparse(self) -> Tensor: ...
    def by_name(self) -> Dict[str, Tensor]: ...
    def numbers(self) -> List[int]: ...
    def nested(self) -> Nested: ...
    @tr.batched(0)
    def rows(self, x: Tensor) -> Tensor: ...


class Counter(nn.Module):
    """Counts its calls, in a buffer, an attribute and a list; no method makes a copy."""

    numbers_: List[int]

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(1))
        self.numbers_ = [0]

    def step(self) -> None:
        self.count.add_(1)
        self.numbers_[0] += 1

    def forward(self) -> Tensor:
        self.step()
        return self.count

    def expanded(self, rows: int) -> Tensor:
        self.step()
        return self.count.expand(rows)

    def sparse(self) -> Tensor:
        self.step()
        return torch.sparse_coo_tensor(torch.tensor([[0, 1]]), self.count.expand(2), [2])

    def by_name(self) -> Dict[str, Tensor]:
        self.step()
        return {"count": self.count}

    def numbers(self) -> List[int]:
        self.step()
        return self.numbers_

    def nested(self) -> Nested:
        self.step()
        return {"numbers": self.numbers_}, self.numbers_, [self.count]

    def rows(self, x: Tensor) -> Tensor:
        self.step()
        return self.count.expand(x.size(0))


READ = {
    "forward": int,
    "expanded": lambda result: int(result[-1]),
    "sparse": lambda result: int(result.to_dense()[1]),
    "by_name": lambda result: int(result["count"]),
    "numbers": lambda result: result[0],
    "nested": lambda result: {result[0]["numbers"][0], result[1][0], int(result[2][0])}.pop(),
    "rows": lambda result: int(result[0]),
}


@pytest.fixture(scope="module", params=[{"in_turn": True}, {"gather": 4, "in_turn": True}], ids=["in_turn", "gather"])
def counter(owner, request):
    return tr.create(owner, Own, Counter, **request.param)


@pytest.mark.parametrize("method", READ)
def test_each_call_has_the_value_at_its_own_end(counter, method):
    call = {"expanded": (3,), "rows": (torch.ones(2, 3),)}.get(method, ())
    many = counter.rows_many if method == "rows" else getattr(counter, f"{method}_many")
    with torch.no_grad():
        first = int(counter()[0])
        found = [READ[method](getattr(counter, method)(*call)) for _ in range(2)]
        pending = [getattr(counter, f"{method}_async")(*call) for _ in range(50)]
        found += [READ[method](future.wait()) for future in pending]
        if method == "rows":  # calls that became one have the same count
            assert found == sorted(found)
            assert found[:3] == [first + 1, first + 2, first + 3]
            assert [int(row) for rows in many([call] * 2) for row in rows] == [found[-1] + 1] * 4
        else:
            found += [READ[method](result) for result in many([call] * 5)]
            assert found == list(range(first + 1, first + 58))


def test_what_is_there_once_is_copied_once(counter):
    with torch.no_grad():
        assert counter.expanded(10**13).shape == (10**13,)


@tr.remote_scriptable
class Weighted:
    def forward(self, x: Tensor) -> Tensor: ...
    def whole(self) -> Tensor: ...


class WeightedModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full([2], 3.0))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.whole()

    def whole(self) -> Tensor:
        return self.weight


def test_gradients_go_through_the_copies(owner):
    weighted = tr.create(owner, Weighted, WeightedModule, in_turn=True)
    x = torch.ones(2, requires_grad=True)
    with dist_autograd.context() as context:
        dist_autograd.backward(context, [weighted(x).sum()])
        assert dist_autograd.get_gradients(context)[x].tolist() == [3.0, 3.0]
    with dist_autograd.context() as context:
        whole = weighted.whole()
        assert whole.requires_grad
        assert torch.equal(whole, torch.full([2], 3.0))
