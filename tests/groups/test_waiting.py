"""Connecting waits for workers that have not joined yet."""

import asyncio
import signal
import threading
import time

import pytest
import torch
import torch.distributed.rpc as rpc

import torchremote as tr
from torchremote.caller.messages.lost_workers import worker_is_lost
from torchremote.errors import AbsentWorkerError, CallTimeoutError, NotInGroupError, PlaceError, ServedNameError

from .. import zoo
from ..waiting import until
from . import roles
from .nursery import in_a_group, raises_within

X = torch.randn(2, 8)


def start_later(nursery, name, seed=0, seconds=0.5):
    """Has a worker join in a while, and serve an encoder a while later."""

    def start():
        nursery.join(name)
        rpc.rpc_sync(name, roles.serve_encoder, (seed, "encoder", 0.3))

    timer = threading.Timer(seconds, start)
    timer.start()
    return timer


@in_a_group()
def test_connect_waits_for_a_worker_to_join_and_then_for_the_name(nursery):
    starting = start_later(nursery, "ps")
    stub = tr.connect("ps", zoo.Encoder, "encoder", wait=60)
    assert torch.equal(stub(X), roles.expected(X, 0))
    starting.join()
    starting = start_later(nursery, "other")
    replicas = tr.connect(["other", "third"], zoo.Encoder, "encoder", wait=60)
    assert torch.equal(replicas(X), roles.expected(X, 0))
    starting.join()


@in_a_group()
def test_connect_waits_for_a_worker_to_come_back(nursery):
    owner = nursery.join("ps")
    rpc.rpc_sync("ps", roles.serve_encoder, (0,))
    tr.connect("ps", zoo.Encoder, "encoder")
    owner.kill()
    until(lambda: worker_is_lost("ps"))  # it is on torch's list for a moment more
    with pytest.raises(NotInGroupError, match="Encoder on ps: the worker has left the group or crashed"):
        tr.connect("ps", zoo.Encoder, "encoder")
    starting = start_later(nursery, "ps", seed=1, seconds=0.1)
    stub = tr.connect("ps", zoo.Encoder, "encoder", wait=60)
    assert torch.equal(stub(X), roles.expected(X, 1))
    starting.join()


@in_a_group()
def test_one_that_does_not_come_is_an_error_that_says_what_to_do(nursery):
    said = r"there is no worker 'ps'; the group has main \(rank:1\); name one of them, or start 'ps' first"
    for ask in (
        lambda: tr.create("ps", zoo.Encoder, zoo.LinearEncoder),
        lambda: tr.stats("ps"),
        lambda: tr.withdraw("encoder", "ps"),
    ):
        with pytest.raises(AbsentWorkerError, match=rf"{said}\Z"):
            ask()
    with pytest.raises(
        AbsentWorkerError, match=rf"{said}; torchremote.connect\(\.\.\., wait=seconds\) waits until the w"
    ):
        tr.connect("ps", zoo.Encoder, "encoder")
    with pytest.raises(AbsentWorkerError, match=rf"{said}; waited for it for 0.2 s\Z"):
        tr.connect("ps", zoo.Encoder, "encoder", wait=0.2)
    with pytest.raises(AbsentWorkerError) as caught:
        tr.connect(["ps", "ps1"], zoo.Encoder, "encoder", wait=0.2)
    assert "ps1" in caught.value.__notes__[0]
    with pytest.raises(AbsentWorkerError, match="waited for it for 0.2 s"):
        tr.connect(["ps", "ps1"], zoo.Encoder, "encoder", wait=0.2)
    for never in ("rank:7", "ps/cpu/"):
        with raises_within(10, PlaceError):
            tr.connect(never, zoo.Encoder, "encoder", wait=60)


@in_a_group(rpc_timeout=60)
def test_a_worker_that_does_not_answer_keeps_nobody_for_longer_than_wait(nursery):
    owner = nursery.join("ps")
    rpc.rpc_sync("ps", roles.serve_encoder, (0,))
    stub = tr.connect("ps", zoo.Encoder, "encoder")
    owner.stop()
    for ask in (
        lambda: tr.connect("ps", zoo.Encoder, "encoder", wait=1.5),
        lambda: tr.connect(["ps"], zoo.Encoder, "encoder", wait=1.5),
        lambda: tr.reconnect(stub, wait=1.5),
    ):
        began = time.monotonic()
        with pytest.raises(CallTimeoutError, match=r"it did not answer within 1[.\d]* s; waited for it for 1.5 s"):
            ask()
        assert time.monotonic() - began < 10


@in_a_group(rpc_timeout=60)
def test_connect_waits_on_when_the_owner_dies_while_it_is_asked(nursery):
    owner = nursery.join("ps")
    rpc.rpc_sync("ps", roles.serve_encoder, (0,))
    owner.stop()
    killing = threading.Timer(0.5, owner.kill)
    killing.start()
    starting = start_later(nursery, "ps", seed=1, seconds=1.5)
    assert torch.equal(tr.connect("ps", zoo.Encoder, "encoder", wait=50)(X), roles.expected(X, 1))
    starting.join()


@in_a_group(rpc_timeout=60)
def test_one_that_serves_a_list_does_not_wait_long_for_a_stopped_one(nursery):
    for name in ("p0", "p1"):
        owner = nursery.join(name)
        rpc.rpc_sync(name, roles.serve_encoder, (0,))
    owner.stop()
    began = time.monotonic()
    for replicas in (
        tr.connect(["p1", "p0"], zoo.Encoder, "encoder"),
        tr.connect(["p1", "p0"], zoo.Encoder, "encoder", wait=60),
        asyncio.run(awaited(tr.connect_async(["p1", "p0"], zoo.Encoder, "encoder"))),
    ):
        assert torch.equal(replicas(X), roles.expected(X, 0))
        assert "p1 (left out: its worker did not answer within 5 s" in repr(replicas), repr(replicas)
    assert time.monotonic() - began < 40
    owner.signal(signal.SIGCONT)
    until(lambda: "p1 (0 in flight)" in repr(replicas))


async def awaited(pending):
    return await pending


@in_a_group()
def test_a_name_that_is_not_served_is_an_error_that_says_how_to_wait(nursery):
    nursery.join("ps")
    with pytest.raises(ServedNameError, match=r"served are: none; torchremote.connect\(\.\.\., wait=seconds\) waits"):
        tr.connect("ps", zoo.Encoder, "encoder")
    stub = tr.create("ps", zoo.Encoder, zoo.LinearEncoder, name="encoder")
    tr.withdraw("encoder", "ps")
    with pytest.raises(ServedNameError, match=r"served are: none; torchremote.reconnect\(model, wait=seconds\) waits"):
        tr.reconnect(stub)
    with pytest.raises(ServedNameError, match=r"served are: none; waited for it for 0.1 s\Z"):
        tr.reconnect(stub, wait=0.1)
