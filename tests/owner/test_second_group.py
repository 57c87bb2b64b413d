"""A second RPC group in the same processes, after the first one: what goes on, and what torch does not let go on."""

import os
import time

import pytest
import torch
import torch.distributed.rpc as rpc
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import NotInitializedError, StaleStubError

from .. import zoo
from ..group import play

X = torch.ones(1, 8)


class Holding(nn.Module):
    encoder: zoo.Encoder

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder.forward(x, 1.0)


def names_here():
    return [module.name for module in tr.stats().modules]


def begin_second(name, rank, store):
    """Ends the first group, and begins another with another file."""
    rpc.shutdown()
    folder = os.path.dirname(store.path)
    options = tr.rpc_options(init_method=f"file://{folder}/second", rpc_timeout=30)
    rpc.init_rpc(name, rank=rank, world_size=2, rpc_backend_options=options)


def end(store, key, other):
    """Ends a group as torch can: an orderly shutdown waits for references that it never hears of."""
    store.set(key, "yes")
    store.wait([other])
    rpc.shutdown(graceful=False)


def owning(store):
    tr.serve(zoo.LinearEncoder(seed=1), zoo.Encoder, "served")
    begin_second("owning", 0, store)
    assert sorted(names_here()) == ["named", "served"]  # the unnamed one went with the first group
    end(store, "owner", "caller")
    assert sorted(names_here()) == ["named", "served"]
    os._exit(0)


def calling(store):
    unnamed = tr.create("owning", zoo.Encoder, zoo.LinearEncoder)
    named = tr.create("owning", zoo.Encoder, zoo.LinearEncoder, name="named")
    plain = tr.RemoteModule("owning", nn.Linear, (8, 8))
    model = torch.jit.script(Holding(named))
    before = named(X)
    served = tr.connect("owning", zoo.Encoder, "served")

    begin_second("calling", 1, store)
    # Stubs of named modules go on, and models that hold them.
    for stub in (named, model, tr.reconnect(named), tr.connect("owning", zoo.Encoder, "named")):
        assert torch.equal(stub(X), before)
    assert torch.equal(served(X), tr.connect("owning", zoo.Encoder, "served")(X))
    assert len(tr.at_owner(named).state_dict()) == 2
    # The others went with their group.
    with pytest.raises(StaleStubError, match="its module is gone: it was withdrawn, or"):
        unnamed(X)
    with pytest.raises(StaleStubError):
        tr.at_owner(unnamed).state_dict()
    with pytest.raises(RuntimeError, match="has been deleted"):
        plain.forward(X)
    # New ones are as in the first, but torch does not tell the owner that they were dropped.
    again = tr.create("owning", zoo.Encoder, zoo.LinearEncoder)
    assert again.forward_many([(X,), (X,)])[1].shape == (1, 8)
    del again
    time.sleep(0.2)
    assert None in [module.name for module in tr.stats("owning").modules]
    end(store, "caller", "owner")
    with pytest.raises(NotInitializedError):
        named(X)
    print("done", flush=True)
    os._exit(0)


def test_a_second_group_after_the_first(tmp_path):
    assert "done" in play(tmp_path, owning, calling)[1]


def overlapping(store):
    stub = tr.create("overlapping", zoo.Encoder, zoo.LinearEncoder)
    options = tr.rpc_options(init_method=f"file://{os.path.dirname(store.path)}/second")
    with pytest.raises(RuntimeError, match="RPC is already initialized"):
        rpc.init_rpc("overlapping", rank=0, world_size=1, rpc_backend_options=options)
    assert stub(X).shape == (1, 8)
    del stub


def test_a_second_group_while_the_first_lives(tmp_path):
    play(tmp_path, overlapping)


def swapping(store):
    rpc.shutdown()
    folder = os.path.dirname(store.path)
    options = tr.rpc_options(init_method=f"file://{folder}/second", rpc_timeout=30)
    with pytest.raises(RuntimeError, match="already initialized with worker_id: 0"):
        rpc.init_rpc("swapping", rank=1, world_size=1, rpc_backend_options=options)
    print("refused", flush=True)
    os._exit(0)


def test_torch_keeps_the_rank_of_a_process(tmp_path):
    """docs/limits.md says so."""
    assert "refused" in play(tmp_path, swapping)[0]
