"""Names: waiting for one, and withdrawing one, also on another worker."""

import threading
import time

import pytest
import torch
import torch.distributed.rpc as rpc

import torchremote as tr
from torchremote.errors import MismatchError, PlaceError, ServedNameError, StaleStubError

from .. import owner_process as remote
from .. import zoo

X = torch.ones(2, 8)


def test_a_name_is_waited_for(owner):
    later = threading.Timer(0.5, lambda: rpc.rpc_sync(owner, remote.serve_encoder, ("awaited", 1)))
    later.start()
    try:
        stub = tr.connect(owner, zoo.Encoder, "awaited", wait=20)
        assert torch.equal(stub(X), zoo.LinearEncoder.output(1, X))
    finally:
        later.join()
        tr.withdraw("awaited", owner)


def test_a_name_that_does_not_come(owner):
    began = time.monotonic()
    with pytest.raises(ServedNameError, match=r"'nobody': .*; waited for it for 0.3 s"):
        tr.connect(owner, zoo.Encoder, "nobody", wait=0.3)
    assert 0.3 <= time.monotonic() - began < 5
    with pytest.raises(ServedNameError, match="'nobody'") as caught:
        tr.connect(owner, zoo.Encoder, "nobody")
    assert "waited" not in str(caught.value)
    with pytest.raises(ServedNameError, match=r"waited for it for 0 s"):
        tr.connect(owner, zoo.Encoder, "nobody", wait=0)


@pytest.mark.parametrize("wait", [-1, "long", float("inf"), True])
def test_a_wait_that_is_no_number_of_seconds(owner, wait):
    with pytest.raises(ValueError, match="seconds"):
        tr.connect(owner, zoo.Encoder, "nobody", wait=wait)


def test_only_the_name_is_waited_for(owner):
    rpc.rpc_sync(owner, remote.serve_encoder, ("other", 1))
    try:
        with pytest.raises(MismatchError):
            tr.connect(owner, zoo.Other, "other", wait=60)
    finally:
        tr.withdraw("other", owner)
    with pytest.raises(PlaceError):
        tr.connect("nowhere", zoo.Encoder, "other", wait=60)


def test_a_name_is_withdrawn_on_another_worker(owner):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name="withdrawn")
    tr.withdraw("withdrawn", owner)
    with pytest.raises(StaleStubError):
        stub(X)
    with pytest.raises(ServedNameError, match=r"withdraw on owner: 'withdrawn': not served"):
        tr.withdraw("withdrawn", owner)
    with pytest.raises(PlaceError):
        tr.withdraw("withdrawn", "nowhere")
    with pytest.raises(ServedNameError, match="'withdrawn'"):
        tr.withdraw("withdrawn")


def test_a_name_that_is_taken_says_how_to_free_it(owner):
    tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name="taken")
    with pytest.raises(ServedNameError, match=r"torchremote.withdraw\('taken', 'owner'\)"):
        tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name="taken")
    tr.withdraw("taken", owner)
