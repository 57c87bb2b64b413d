"""Calls that are made where the recursion limit is near: they succeed, or raise RecursionError, and nothing else."""

import inspect
import sys
from functools import partial
from typing import Any, Dict, List

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr


@tr.remote_scriptable
class Values:
    def forward(self, x: Tensor) -> Tensor: ...
    def numbers(self, a: float, b: complex, c: int) -> float: ...
    def inside(self, xs: List[Dict[str, Tensor]], scale: float) -> Tensor: ...
    def anything(self, x: Any) -> Any: ...


class ValuesModule(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x

    def numbers(self, a: float, b: complex, c: int) -> float:
        return a

    def inside(self, xs: List[Dict[str, Tensor]], scale: float) -> Tensor:
        return xs[0]["a"]

    def anything(self, x: Any) -> Any:
        return x


X = nn.Parameter(torch.ones(3))
CALLS = {
    "a call": lambda owner, stub: stub(X),
    "with a name": lambda owner, stub: stub(x=X),
    "async": lambda owner, stub: stub.forward_async(X).wait(),
    "a batch": lambda owner, stub: stub.forward_many([(X,), (X,)])[1],
    "an RRef": lambda owner, stub: stub.forward_remote(X).to_here(),
    "an int for a float": lambda owner, stub: stub.numbers(1, 2, 3),
    "inside others": lambda owner, stub: stub.inside([{"a": X}], 1),
    "of any type": lambda owner, stub: stub.anything((1, [[X], [X]], {"a": ["b"]})),
    "a creation": lambda owner, stub: tr.create(owner, Values, ValuesModule)(X),
    "the state": lambda owner, stub: tr.at_owner(stub).state_dict(),
}
LIMIT = 400


def try_at(frames, call):
    """Makes a call so many frames further down, and says how it went. None: there are not so many frames."""
    begun = []
    try:
        call_at(frames, call, begun)
    except Exception as error:
        return type(error).__name__ if begun else None
    return "made"


def call_at(frames, call, begun):
    if frames > 0:
        call_at(frames - 1, call, begun)
    else:
        begun += [True]
        call()


@pytest.mark.parametrize("way", CALLS)
def test_a_call_where_the_recursion_limit_is_near_is_made_or_raises_recursion_error(owner, way):
    call = partial(CALLS[way], owner, tr.create(owner, Values, ValuesModule))
    call()
    frames_left = LIMIT - len(inspect.stack())
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(LIMIT)
    try:
        found = [try_at(frames, call) for frames in range(frames_left - 130, frames_left)]
    finally:
        sys.setrecursionlimit(before)
    assert set(found) - {None} == {"made", "RecursionError"}, found
    call()
