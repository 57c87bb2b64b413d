"""Holders to which an owner cannot connect: torch closed their port, as it does after a port scan, and they live on."""

import gc
import threading

import pytest
import torch
import torch.distributed.rpc as rpc

import torchremote as tr
from torchremote import chores
from torchremote.errors import StaleStubError
from torchremote.owner.lives import holders, leases

from .. import zoo
from ..group import close_the_port, play
from ..waiting import until

X = torch.ones(1, 8)


def on_the_sweeper(chore):
    """Has the sweeper's thread do a chore, and waits for that."""
    done = threading.Event()
    chores.soon(chore)
    chores.soon(done.set)
    assert done.wait(20)


def watch_once():
    """Looks after the holders. Returns how many refuse, and how many leases are left."""
    on_the_sweeper(leases.watch)
    until(lambda: all(one.asked.done() for one in holders._holders.values()))
    refuse = [holders._refuses(one.asked) for one in holders._holders.values()]
    return sum(refuse), sum(map(len, leases._leases().values()))


def a_leader(store):
    """Connects to all others when the group begins, and after that to nobody."""
    store.wait(["done"])


def owner(store):
    chores.INTERVAL = 1000.0  # it looks when it is told to
    holders.SILENT_ROUNDS = 3
    store.set("owner", "ready")
    store.wait(["done"])


def watch_after_a_sign():
    on_the_sweeper(holders._give_signs)
    holders._owners["owner"].sign.wait()
    return rpc.rpc_sync("owner", watch_once)


def deaf(store):
    chores.INTERVAL, holders.ROUNDS_BETWEEN_SIGNS = 1000.0, 1
    close_the_port()
    store.wait(["owner"])
    stub = tr.create("owner", zoo.Encoder, zoo.LinearEncoder)
    for _ in range(6):
        assert watch_after_a_sign() == (1, 1)
        assert torch.equal(stub(X), zoo.LinearEncoder.output(0, X))
    later = tr.create("owner", zoo.Encoder, zoo.LinearEncoder)
    assert watch_after_a_sign() == (1, 2)
    assert torch.equal(later(X), stub(X))
    del later
    gc.collect()
    until(lambda: watch_after_a_sign() == (1, 1))
    left = [rpc.rpc_sync("owner", watch_once) for _ in range(4)]  # without a sign, as if it had died
    assert left == [(1, 1), (1, 1), (1, 0), (0, 0)]  # the first silent round was the one before
    with pytest.raises(StaleStubError):
        stub(X)
    print("kept", flush=True)
    store.set("done", "yes")


def test_a_holder_that_takes_no_connections_keeps_its_modules_while_it_gives_signs(tmp_path):
    told = play(tmp_path, a_leader, owner, deaf)
    assert "kept" in told[2]
