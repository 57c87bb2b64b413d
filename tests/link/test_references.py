"""RRefs refer to a value of the declared type, or the call is refused before it is sent."""

from typing import Any, Dict, List, Optional, Tuple

import pytest
import torch
import torch.distributed.rpc as rpc
from torch import Tensor, nn
from torch.distributed.rpc import RRef

import torchremote as tr
from torchremote.errors import ArgumentError


@tr.remote_scriptable
class Fetch:
    def forward(self, x: RRef[Tensor]) -> Tensor: ...
    def inside(self, xs: List[RRef[Tensor]], by: Dict[str, Optional[RRef[Tensor]]]) -> List[Tensor]: ...
    def pair(self, both: Tuple[int, RRef[int]]) -> int: ...
    def text(self, x: RRef[str]) -> str: ...
    def maybe(self, x: RRef[Optional[Tensor]]) -> Optional[Tensor]: ...
    def give(self, x: Tensor) -> RRef[Tensor]: ...
    def anything(self, x: Any) -> int: ...


class FetchModule(nn.Module):
    def forward(self, x: RRef[Tensor]) -> Tensor:
        return x.to_here()

    def inside(self, xs: List[RRef[Tensor]], by: Dict[str, Optional[RRef[Tensor]]]) -> List[Tensor]:
        found: List[Tensor] = [x.to_here() for x in xs]
        for value in by.values():
            if value is not None:
                found.append(value.to_here())
        return found

    def pair(self, both: Tuple[int, RRef[int]]) -> int:
        return both[0] + both[1].to_here()

    def text(self, x: RRef[str]) -> str:
        return x.to_here()

    def maybe(self, x: RRef[Optional[Tensor]]) -> Optional[Tensor]:
        return x.to_here()

    def give(self, x: Tensor) -> RRef[Tensor]:
        return rpc.remote("owner", doubled, (x,))

    def anything(self, x: Any) -> int:
        return 1


@torch.jit.script
def doubled(x: Tensor) -> Tensor:
    return x * 2


@torch.jit.script
def longer(text: str) -> str:
    return text + "!"


def ones():
    return torch.ones(1)


@pytest.fixture(scope="module")
def fetch(owner):
    return tr.create(owner, Fetch, FetchModule)


ONE = torch.ones(1)
UNKNOWN = "this RRef refers to an object of Python, .* and is no RRef.Tensor.; make it with a scripted function"


def test_an_rref_to_the_declared_type_works(owner, fetch):
    scripted, own = rpc.remote(owner, doubled, (ONE,)), RRef(ONE)
    assert fetch(scripted) == 2
    assert fetch(own) == 1
    assert fetch.forward_async(rpc.remote(owner, torch.add, (ONE, 2))).wait() == 3
    assert fetch.inside([scripted, own], {"a": None, "b": own}) == [2, 1, 1]
    assert fetch.pair((1, RRef(2))) == 3
    assert fetch.text(RRef("a")) == "a"
    assert fetch.maybe(own) == 1
    assert fetch.forward_many([(own,), (scripted,)]) == [1, 2]
    assert fetch(fetch.give(ONE)) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda owner: rpc.remote(owner, abs, (1,)), UNKNOWN),
        (lambda owner: rpc.remote(owner, ones), UNKNOWN),
        (lambda owner: RRef(object()), UNKNOWN),
        (lambda owner: RRef("a"), r"RRef\[str\] is no RRef\[Tensor\]; pass a reference to such a value"),
        (lambda owner: RRef([ONE]), r"RRef\[List\[Tensor\]\] is no RRef\[Tensor\]"),
        (lambda owner: rpc.remote(owner, longer, ("a",)), r"RRef\[str\] is no RRef\[Tensor\]"),
        (lambda owner: RRef(None), r"RRef\[NoneType\] is no RRef\[Tensor\]"),
    ],
)
def test_an_rref_to_anything_else_is_refused_wherever_it_is(owner, fetch, make, message):
    wrong, right = make(owner), RRef(ONE)
    calls = {
        "forward.x": lambda: fetch(wrong),
        r"inside.xs\[1\]": lambda: fetch.inside([right, wrong], {}),
        r"inside.by\['b'\]": lambda: fetch.inside([], {"a": None, "b": wrong}),
        r"forward_many.calls\[1\].x": lambda: fetch.forward_many([(right,), (wrong,)]),
    }
    for where, call in calls.items():
        with pytest.raises(ArgumentError, match=f"^Fetch.{where}: {message}"):
            call()
    with pytest.raises(ArgumentError, match=r"^Fetch.anything.x: an object of class .*RRef cannot cross inside Any"):
        fetch.anything(wrong)
    assert fetch(right) == 1  # both go on


def test_an_rref_to_a_tensor_is_refused_for_other_types(fetch):
    with pytest.raises(ArgumentError, match=r"^Fetch.text.x: RRef\[Tensor\] is no RRef\[str\]; .*Tensor"):
        fetch.text(RRef(ONE))
    with pytest.raises(ArgumentError, match=r"^Fetch.pair.both\[1\]: RRef\[float\] is no RRef\[int\]"):
        fetch.pair((1, RRef(2.0)))
    with pytest.raises(ArgumentError, match=r"^Fetch.maybe.x: RRef\[int\] is no RRef\[Optional\[Tensor\]\]"):
        fetch.maybe(RRef(1))
