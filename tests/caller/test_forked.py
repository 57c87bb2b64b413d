"""A child that was forked while RPC was running says so, whatever it asks for, and does not wait."""

import asyncio
import os
import signal
import subprocess
import sys
import threading

import pytest
import torch

import torchremote as tr
from torchremote.caller.calls import batches
from torchremote.caller.messages.awaiting import Answer
from torchremote.errors import GroupError, NotInitializedError
from torchremote.link.failures import FORKED

from .. import zoo
from ..group import play

X = torch.ones(1, 8)


def told_in_a_child(ask):
    """Returns what `ask` raises in a forked child, its name and text, or "returned"; empty after ten seconds."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            ask()
            os.write(write, b"returned")
        except BaseException as error:
            os.write(write, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    end = threading.Timer(10, os.kill, (child, signal.SIGKILL))
    end.start()
    os.close(write)
    os.waitpid(child, 0)
    end.cancel()
    with os.fdopen(read) as said:
        return said.read()


class Asking(torch.nn.Module):
    stub: zoo.Encoder

    def __init__(self, stub):
        super().__init__()
        self.stub = stub

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.stub(x)


async def until_done(answer):
    await answer


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
        Answer().wait,
        lambda: asyncio.run(until_done(Answer())),
        lambda: tr.spawn("child"),
        lambda: tr.group_address(),
        lambda: tr.leave(),
    ):
        told = told_in_a_child(ask)
        assert told.startswith(NotInitializedError.__name__), told
        assert FORKED in told
    assert told_in_a_child(lambda: tr.join("child")) == f"{GroupError.__name__}: join 'child': {FORKED}"
    model = torch.jit.script(Asking(stub))
    told = told_in_a_child(lambda: model(X))
    assert told.startswith("RuntimeError"), told  # torch's own, from TorchScript
    assert "RPC agent is not set" in told
    assert stub(X).shape == (1, 8)  # the parent goes on


def test_a_forked_child_says_that_it_has_no_rpc(tmp_path):
    play(tmp_path, forking)


ENDING = """
import os, signal, sys, torch.distributed.rpc as rpc, torchremote as tr
rpc.init_rpc("alone", rank=0, world_size=1, rpc_backend_options=tr.rpc_options(init_method=f"file://{sys.argv[1]}"))
child = os.fork()
if child:
    ended = os.waitpid(child, 0)[1]
    rpc.shutdown()
    sys.exit(os.waitstatus_to_exitcode(ended))
signal.alarm(30)
"""


def test_a_forked_child_ends(tmp_path):
    """torch would wait for threads of the parent's as it destroys the agent."""
    command = [sys.executable, "-W", "ignore", "-c", ENDING, str(tmp_path / "store")]
    subprocess.run(command, check=True, timeout=60)


def test_a_process_may_be_forked_before_rpc_runs():
    """As the workers of these tests are; a child asks for what needs no worker."""
    with pytest.raises(tr.TorchRemoteError):
        tr.create(5, zoo.Encoder, zoo.LinearEncoder)
    assert told_in_a_child(lambda: tr.stats()) == "returned"


def test_forked_children_number_their_batches_differently():
    """The numbers say which batch failed, on an owner that both call."""

    def tell():
        raise ValueError(next(batches._numbers))

    told = {told_in_a_child(tell) for _ in range(2)}
    assert len(told) == 2
    assert all(one.startswith("ValueError: ") for one in told)
