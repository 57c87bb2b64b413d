"""Differential: for any type, in every placement, a remote module gives what the module gives."""

import itertools

import pytest
import torch
import torch.distributed.rpc as rpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from torchremote.jit import Placement, compile_interface
from torchremote.stub import Route, make_stub

from . import owner as remote
from . import zoo
from .jit.strategies import types, values

tensors = st.builds(lambda size: torch.arange(size) / 7, st.integers(0, 3))
_numbers = itertools.count()


def same(ours, theirs):
    if type(ours) is not type(theirs):
        return False
    match ours:
        case torch.Tensor():
            return torch.equal(ours, theirs)
        case list() | tuple():
            return len(ours) == len(theirs) and all(map(same, ours, theirs))
        case dict():
            return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in ours)
    return ours == theirs


@pytest.mark.parametrize("placement", Placement)
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_an_echo_is_what_was_said(owner, placement, data):
    type = data.draw(types)
    interface = zoo.interface_of(f"forward(x: {type}) -> {type}", f"Echo{next(_numbers)}")
    handle = rpc.rpc_sync(owner, remote.host_echo, (interface.name, interface.text, str(type)))
    stub = make_stub(compile_interface(interface), Route(owner, "cpu", placement, handle, None, None))
    value = data.draw(values(type, tensors))
    assert same(stub(value), value)
    assert same(stub.forward_async(value).wait(), value)
    rpc.rpc_sync(owner, remote.release_all, ([handle],))
