"""Calls of batched methods whose tensors stand in Optionals, lists, dicts, tuples, NamedTuples and Unions."""

import itertools
from typing import Dict, List, NamedTuple, Optional, Tuple, Union

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote import testing
from torchremote.errors import RemoteError

from .. import zoo


class Observed(NamedTuple):
    image: Tensor
    kind: zoo.Color
    rest: List[Optional[Tensor]]


class Shown(NamedTuple):
    image: Tensor
    rest: List[Optional[Tensor]]


@tr.remote_scriptable
class Joining:
    @tr.batched(0)
    def masked(self, x: Tensor, mask: Optional[Tensor] = None) -> Tuple[Tensor, Optional[Tensor]]: ...
    @tr.batched(0)
    def nested(
        self, by_name: Dict[str, List[Tensor]], scales: List[float], names: Tuple[str, Optional[int]]
    ) -> Dict[str, List[Tensor]]: ...
    @tr.batched(0)
    def observe(self, seen: Observed, either: Union[int, Tensor, None] = None) -> Shown: ...
    def count(self) -> int:
        """Returns how many calls ran since the last count."""


class Joined(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def masked(self, x: Tensor, mask: Optional[Tensor]) -> Tuple[Tensor, Optional[Tensor]]:
        self.calls += 1
        return (x, None) if mask is None else (x * mask, mask)

    def nested(
        self, by_name: Dict[str, List[Tensor]], scales: List[float], names: Tuple[str, Optional[int]]
    ) -> Dict[str, List[Tensor]]:
        self.calls += 1
        done: Dict[str, List[Tensor]] = {}
        for name, tensors in by_name.items():
            done[names[0] + name] = [tensor * sum(scales) for tensor in tensors]
        return done

    def observe(self, seen: Observed, either: Union[int, Tensor, None]) -> Shown:
        self.calls += 1
        image = seen.image
        if isinstance(either, int):
            image = image + either
        elif isinstance(either, Tensor):
            image = either + image
        return Shown(image, seen.rest)

    def count(self) -> int:
        calls, self.calls = self.calls, 0
        return calls


@pytest.fixture
def joining(owner):
    return tr.create(owner, Joining, Joined)


def x(rows, value=1.0):
    return torch.full((rows, 2), value)


def as_one(stub, method, calls, joined=True):
    """Makes calls together and one by one, and compares: results, and how many calls there were."""
    together = getattr(stub, f"{method}_many")(calls)
    assert stub.count() == (1 if joined else len(calls))
    for one, result in zip(calls, together, strict=True):
        assert testing.same(result, getattr(stub, method)(*one))
    stub.count()
    return together


def test_optionals(joining):
    as_one(joining, "masked", [(x(1),), (x(3, 2.0),)])
    as_one(joining, "masked", [(x(1), x(1, 0.0)), (x(2, 3.0), x(2))])
    as_one(joining, "masked", [(x(1), x(1)), (x(2),)], joined=False)
    as_one(joining, "masked", [(x(1),), (x(2), x(2))], joined=False)


def test_nested_containers(joining):
    calls = [({"a": [x(n), x(n, 2.0)], "b": []}, [0.5, 0.25], ("n", 1)) for n in (1, 2, 0)]
    as_one(joining, "nested", calls)
    different = (
        ({"a": [x(1)], "b": []}, [0.5, 0.25], ("n", 1)),  # lengths of lists
        ({"a": [x(1), x(1)]}, [0.5, 0.25], ("n", 1)),  # keys
        ({"b": [], "a": [x(1), x(1)]}, [0.5, 0.25], ("n", 1)),  # their order
        ({"a": [x(1), x(2)], "b": []}, [0.5, 0.25], ("n", 1)),  # sizes within one call
        ({"a": [x(1), x(1).double()], "b": []}, [0.5, 0.25], ("n", 1)),  # dtypes
        ({"a": [x(1), torch.ones(1, 3)], "b": []}, [0.5, 0.25], ("n", 1)),  # shapes
        ({"a": [x(1), x(1)], "b": []}, [0.5, 0.0], ("n", 1)),  # numbers
        ({"a": [x(1), x(1)], "b": []}, [0.5], ("n", 1)),
        ({"a": [x(1), x(1)], "b": []}, [0.5, 0.25], ("m", 1)),  # strings
        ({"a": [x(1), x(1)], "b": []}, [0.5, 0.25], ("n", 2)),  # numbers in Optionals
        ({"a": [x(1), x(1)], "b": []}, [0.5, 0.25], ("n", None)),
    )
    for other, order in itertools.product(different, (1, -1)):
        as_one(joining, "nested", [calls[0], other][::order], joined=False)


def test_calls_without_a_tensor_are_not_joined(joining):
    as_one(joining, "nested", [({"a": []}, [1.0], ("n", 1))] * 2, joined=False)
    assert joining.nested_many([]) == []


def test_named_tuples_enums_and_unions(joining):
    def seen(rows, kind=zoo.Color.RED, rest=(None,)):
        return Observed(x(rows), kind, list(rest))

    (first, _), _ = as_one(joining, "observe", [(seen(1),), (seen(2),)])
    assert torch.equal(first, x(1))
    as_one(joining, "observe", [(seen(1, rest=(None, x(1))), 2), (seen(2, rest=(None, x(2))), 2)])
    as_one(joining, "observe", [(seen(n), x(n)) for n in (1, 2)])
    for one, other in (
        ((seen(1), 2), (seen(1), 3)),
        ((seen(1), 2), (seen(1), x(1))),
        ((seen(1), 2), (seen(1),)),
        ((seen(1),), (seen(1, zoo.Color.GREEN),)),
        ((seen(1),), (seen(1, rest=(x(1),)),)),
    ):
        as_one(joining, "observe", [one, other], joined=False)


def test_gradients_flow_through_what_is_joined(joining):
    leaves = [x(n).requires_grad_() for n in (1, 2)]
    with torch.distributed.autograd.context() as context:
        results = joining.nested_many([({"a": [leaf]}, [3.0], ("", None)) for leaf in leaves])
        torch.distributed.autograd.backward(context, [sum(result["a"][0].sum() for result in results)])
        gradients = torch.distributed.autograd.get_gradients(context)
    assert joining.count() == 1
    for leaf in leaves:
        assert torch.equal(gradients[leaf], torch.full_like(leaf, 3.0))


class InScript(nn.Module):
    stub: tr.remote_interface(Joining)

    def __init__(self, stub):
        super().__init__()
        self.stub = stub

    def forward(self, xs: List[Tensor]) -> List[Tuple[Tensor, Optional[Tensor]]]:
        calls: List[Tuple[Tensor, Optional[Tensor]]] = []
        for x in xs:
            calls.append((x, torch.zeros_like(x)))
        return self.stub.masked_many(calls)


def test_a_scripted_model_joins(joining):
    first, second = torch.jit.script(InScript(joining))([x(1), x(2)])
    assert joining.count() == 1
    assert torch.equal(second[0], x(2, 0.0))
    assert torch.equal(first[1], x(1, 0.0))


class Shrinking(Joined):
    def nested(
        self, by_name: Dict[str, List[Tensor]], scales: List[float], names: Tuple[str, Optional[int]]
    ) -> Dict[str, List[Tensor]]:
        return {"a": [by_name["a"][0], by_name["a"][0].sum(0, keepdim=True)]}


def test_a_result_that_cannot_be_cut_is_an_error(owner):
    stub = tr.create(owner, Joining, Shrinking)
    with pytest.raises(RemoteError, match="Joining.nested: declared batched along dimension 0, where 3 slices were"):
        stub.nested_many([({"a": [x(n)]}, [1.0], ("", None)) for n in (1, 2)])
