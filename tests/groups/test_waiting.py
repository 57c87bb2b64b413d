"""Connecting waits for workers that have not joined yet."""

import threading

import pytest
import torch
import torch.distributed.rpc as rpc

import torchremote as tr
from torchremote.errors import AbsentWorkerError, NotInGroupError, PlaceError

from .. import zoo
from ..waiting import until
from . import roles
from .nursery import elapsed, in_a_group

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
    until(lambda: "ps" in lost_workers())  # it is on torch's list for a moment more
    with pytest.raises(NotInGroupError, match="Encoder on ps: the worker has left the group or crashed"):
        tr.connect("ps", zoo.Encoder, "encoder")
    starting = start_later(nursery, "ps", seed=1, seconds=0.1)
    stub = tr.connect("ps", zoo.Encoder, "encoder", wait=60)
    assert torch.equal(stub(X), roles.expected(X, 1))
    starting.join()


def lost_workers():
    from torchremote.caller.methods import lost_workers

    return lost_workers


@in_a_group()
def test_one_that_does_not_come_is_an_error_that_says_what_to_do(nursery):
    said = r"there is no worker 'ps'; the group has main \(rank:1\); name one of them, or start 'ps' first; torchremote"
    with pytest.raises(AbsentWorkerError, match=rf"{said}.connect\(\.\.\., wait=seconds\) waits until it has joined"):
        tr.create("ps", zoo.Encoder, zoo.LinearEncoder)
    with pytest.raises(AbsentWorkerError, match=rf"{said}.*; waited for it for 0.2 s"):
        tr.connect("ps", zoo.Encoder, "encoder", wait=0.2)
    with pytest.raises(AbsentWorkerError, match="waited for it for 0.2 s"):
        tr.connect(["ps", "ps1"], zoo.Encoder, "encoder", wait=0.2)
    for never in ("rank:7", "ps/cpu/"):
        with pytest.raises(PlaceError):
            assert elapsed(lambda never=never: tr.connect(never, zoo.Encoder, "encoder", wait=60)) < 10
