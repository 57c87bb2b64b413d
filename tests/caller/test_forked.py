"""A child that was forked while RPC was running says so, whatever it asks for, and does not wait."""

import os
import signal
import threading

import pytest
import torch

import torchremote as tr
from torchremote.errors import NotInitializedError

from .. import zoo
from ..group import play

X = torch.ones(1, 8)


def told_in_a_child(ask):
    """What `ask` raises in a forked child, by its name; the child may take ten seconds."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            ask()
            os.write(write, b"returned")
        except BaseException as error:
            os.write(write, type(error).__name__.encode())
        os._exit(0)
    end = threading.Timer(10, os.kill, (child, signal.SIGKILL))
    end.start()
    os.close(write)
    os.waitpid(child, 0)
    end.cancel()
    with os.fdopen(read) as said:
        return said.read()


def forking(store):
    stub = tr.create("forking", zoo.Encoder, zoo.LinearEncoder, name="forked")
    remote = tr.RemoteModule("forking", torch.nn.Linear, (8, 1))
    for ask in (
        lambda: stub(X),
        lambda: stub.forward_async(X),
        lambda: stub.forward_many([(X,)]),
        lambda: tr.at_owner(stub).state_dict(),
        lambda: tr.create("forking", zoo.Encoder, zoo.LinearEncoder),
        lambda: tr.create_many(["forking"], zoo.Encoder, zoo.LinearEncoder),
        lambda: tr.connect("forking", zoo.Encoder, "forked"),
        lambda: tr.stats("forking"),
        lambda: tr.RemoteModule("forking", torch.nn.Linear, (1, 1)),
        lambda: remote(X),
    ):
        assert told_in_a_child(ask) == NotInitializedError.__name__
    assert stub(X).shape == (1, 8)  # the parent goes on


def test_a_forked_child_says_that_it_has_no_rpc(tmp_path):
    play(tmp_path, forking)


def test_a_process_may_be_forked_before_rpc_runs():
    """As the workers of these tests are; a child asks for what needs no worker."""
    with pytest.raises(tr.TorchRemoteError):
        tr.create(5, zoo.Encoder, zoo.LinearEncoder)
    assert told_in_a_child(lambda: tr.stats()) == "returned"
