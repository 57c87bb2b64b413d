"""Names: waiting for one, and withdrawing one, also on another worker."""

import threading
import time

import pytest
import torch
import torch.distributed.rpc as rpc

import torchremote as tr
from torchremote.errors import (
    AbsentWorkerError,
    ArgumentError,
    MismatchError,
    PlaceError,
    ServedNameError,
    StaleStubError,
)
from torchremote.owner.create import cancel_here

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


def test_a_worker_is_named_once_in_whatever_way(owner):
    with pytest.raises(PlaceError, match="'owner' is there twice"):
        tr.connect([owner, "rank:1"], zoo.Encoder, "nobody")


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
    start = time.monotonic()
    with pytest.raises(PlaceError, match="there is no worker 'nobody'.*nobody else can join") as caught:
        tr.connect("nobody", zoo.Encoder, "encoder", wait=60)
    assert not isinstance(caught.value, AbsentWorkerError)
    assert time.monotonic() - start < 10


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


@pytest.fixture
def taken(owner):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": 1}, name="taken")
    yield stub
    tr.withdraw("taken", owner)


def created(owner, if_exists, seed=2, name="taken"):
    return tr.create(owner, zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": seed}, name=name, if_exists=if_exists)


def test_a_name_that_exists_is_an_error_by_default(owner, taken):
    with pytest.raises(ServedNameError, match="'taken': .* if_exists='connect'.* if_exists='replace'"):
        created(owner, "raise")


def test_a_name_that_exists_is_connected(owner, taken):
    assert torch.equal(created(owner, "connect")(X), taken(X))
    with pytest.raises(MismatchError):
        tr.create(owner, zoo.Other, zoo.OtherModule, name="taken", if_exists="connect")
    stub = created(owner, "connect", name="free")
    assert torch.equal(stub(X), zoo.LinearEncoder.output(2, X))
    assert torch.equal(created(owner, "connect", seed=3, name="free")(X), stub(X))
    tr.withdraw("free", owner)


def test_a_name_that_exists_is_replaced(owner, taken):
    stub = created(owner, "replace")
    assert torch.equal(stub(X), zoo.LinearEncoder.output(2, X))
    assert torch.equal(taken(X), stub(X))
    with pytest.raises(MismatchError, match="'taken': stubs call it as Encoder, .* or withdraw 'taken' first"):
        tr.create(owner, zoo.Other, zoo.OtherModule, name="taken", if_exists="replace")
    assert torch.equal(taken(X), stub(X))


def test_many_callers_make_one_module(owner):
    futures = [
        tr.create_async(owner, zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": n}, name="one", if_exists="connect")
        for n in range(8)
    ]
    results = [pending.wait()(X) for pending in futures]
    assert all(torch.equal(result, results[0]) for result in results)
    tr.withdraw("one", owner)


def test_what_gives_up_leaves_a_module_that_was_there(owner, taken):
    pending = tr.create_async(owner, zoo.Encoder, zoo.LinearEncoder, name="taken", if_exists="connect")
    pending.wait()
    rpc.rpc_sync(owner, cancel_here, (pending._ticket,))
    assert torch.equal(taken(X), zoo.LinearEncoder.output(1, X))


@pytest.mark.parametrize(
    ("if_exists", "name", "says"),
    [
        ("overwrite", "taken", "'overwrite': one of 'raise', 'connect', 'replace'"),
        ("overwrite", None, "'overwrite': one of 'raise', 'connect', 'replace'"),
        (True, "taken", "True: one of 'raise', 'connect', 'replace'"),
        ("connect", None, "'connect': .*give it a name="),
    ],
)
def test_an_if_exists_that_makes_no_sense(owner, if_exists, name, says):
    with pytest.raises(ArgumentError, match=f"if_exists={says}"):
        tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name=name, if_exists=if_exists)
