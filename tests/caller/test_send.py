"""Stubs, and scripted models that hold some, as arguments and results of RPC; and what becomes of their modules."""

import gc
import os
import signal
import sys
import warnings

import pytest
import torch
import torch.distributed.nn
import torch.distributed.rpc as rpc
from torch import nn

import torchremote as tr
from torchremote import chores
from torchremote.caller.stubs.send_model import Sent
from torchremote.owner.lives import leases

from .. import zoo
from ..group import play
from ..waiting import until
from .test_calls import Ranker

X = torch.ones(2, 8)


def count_hosted():
    gc.collect()
    return len(tr.stats().modules)


def call(stub, x):
    return stub(x)


def call_nested(parts, x):
    return sum(part["stub"](x) for part in parts)


_kept = []


def keep(stub):
    _kept.append(stub)


def call_kept(x):
    return _kept[-1](x)


def give_kept():
    return _kept[-1]


def drop_kept():
    _kept.clear()
    gc.collect()


def make():
    return tr.create("owning", zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": 3})


def make_model():
    return torch.jit.script(Ranker(make()))


class Holder(nn.Module):
    def __init__(self, stub):
        super().__init__()
        self.stub = stub

    def forward(self, x):
        return self.stub(x)


def owning(store):
    chores.INTERVAL = 0.25
    store.wait(["done"])
    if store.check(["made"]):
        os._exit(0)  # an orderly shutdown would wait for the dead


def third(store):
    store.wait(["done"])


# -- as arguments and results


def sending(store):
    local = zoo.LinearEncoder(seed=3)(X, 1.0)
    named = tr.create("owning", zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": 3}, name="named")
    for stub in (named, make()):
        for to in ("third", "owning", "sending"):
            assert torch.equal(rpc.rpc_sync(to, call, (stub, X)), local)
            assert torch.equal(rpc.rpc_async(to, call, (stub, X)).wait(), local)
            assert torch.equal(rpc.remote(to, call, (stub, X)).to_here(), local)
            assert torch.equal(rpc.rpc_sync(to, call_nested, ([{"stub": stub}, {"stub": stub}], X)), local + local)
            assert torch.equal(rpc.rpc_sync(to, call, (Holder(stub), X)), local)
            model = torch.jit.script(Ranker(stub))
            assert torch.equal(rpc.rpc_sync(to, call, (model, X)), model(X))
            outer = torch.jit.script(Holder(nn.Sequential(nn.Identity(), model)))
            assert torch.equal(rpc.rpc_sync(to, call, (outer, X)), model(X))
            assert torch.equal(rpc.rpc_sync(to, call, (torch.jit.script(nn.Identity()), X)), X)
    for to in ("third", "owning"):
        assert torch.equal(rpc.rpc_sync(to, make)(X), local)
        given = rpc.remote(to, make).to_here()
        assert torch.equal(given.topk(X, k=3)[0], named.topk(X, k=3)[0])
        reference = rpc.remote(to, make)
        assert torch.equal(reference.rpc_sync().forward(X), local)
        assert torch.equal(reference.rpc_async().topk(X, k=3).wait()[0], named.topk(X, k=3)[0])
        del reference
        assert "topk" in dir(given)
        assert repr(given) == "EncoderStub(Encoder on owning/cpu, answers)"
        model = rpc.rpc_sync(to, make_model)
        assert torch.equal(model.encoder(X), local)
    del stub, given, model, outer
    until(lambda: (gc.collect(), rpc.rpc_sync("owning", count_hosted) == 1)[1])
    store.set("done", "yes")


def test_stubs_and_models_are_arguments_and_results(tmp_path):
    play(tmp_path, owning, sending, third, shared_memory=False)


# -- models that hold no stub: as without torchremote


class Refusing(nn.Module):
    """Raises while it is saved."""

    def __init__(self):
        super().__init__()
        self.training = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    @torch.jit.export
    def __getstate__(self) -> int:
        raise RuntimeError("torchremote: not mine")
        return 1

    @torch.jit.export
    def __setstate__(self, state: int):
        self.training = True


def reduced(model):
    return rpc.internal._internal_rpc_pickler._class_reducer_dict[type(model)](model)


def test_models_without_stubs_are_taken_apart_by_torch(monkeypatch):
    receiver, _ = reduced(torch.jit.script(nn.Linear(1, 1)))
    assert receiver.__module__ == "torch.distributed.nn.api.remote_module"
    monkeypatch.delitem(sys.modules, "torch.distributed.nn.api.remote_module")
    for model in (torch.jit.script(nn.Linear(1, 1)), torch.jit.trace(nn.Linear(1, 1), X[:, :1])):
        rebuild, (content, routes) = reduced(model)
        assert routes == {}
        assert torch.equal(rebuild(content, routes)(X[:, :1]), model(X[:, :1]))


def test_a_model_for_an_owner_crosses_without_words_of_torch():
    model = torch.jit.script(nn.Linear(1, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sent = rpc.internal.serialize({"make": Sent(model)})
        arrived = rpc.internal.deserialize(*sent)["make"]
    assert torch.equal(arrived(X[:, :1]), model(X[:, :1]))


def local_class():
    class Doubling(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    return Doubling


class OnTensor:
    def forward(self, x: torch.Tensor) -> torch.Tensor: ...


def test_a_class_that_the_owner_cannot_import_is_sent_without_words_of_torch(owner):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stub = tr.create(owner, OnTensor, local_class())
    assert torch.equal(stub(X), 2 * X)


def test_errors_of_models_without_stubs_are_torchs():
    with pytest.raises(torch.jit.Error, match="torchremote: not mine") as caught:
        reduced(torch.jit.script(Refusing()))
    assert not isinstance(caught.value, tr.TorchRemoteError)


class TheirRemote(nn.Module):
    """Has the attribute by which torch knows a scripted RemoteModule of its own."""

    module_rref: int

    def __init__(self):
        super().__init__()
        self.module_rref = 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_a_scripted_remote_module_of_torch_is_refused_by_torch(owner):
    with pytest.raises(RuntimeError, match="Passing a script RemoteModule over RPC is not supported") as caught:
        rpc.rpc_sync(owner, type, (torch.jit.script(TheirRemote()),))
    assert not isinstance(caught.value, tr.TorchRemoteError)


# -- lives


def leasing(store):
    local = zoo.LinearEncoder(seed=3)(X, 1.0)
    for form in (lambda stub: stub, lambda stub: torch.jit.script(Ranker(stub)), Holder):
        # From here to the third worker, and from there, by way of the owner, back.
        stub = form(make())
        expected = stub(X)
        rpc.rpc_sync("third", keep, (stub,))
        del stub
        gc.collect()
        until(lambda: rpc.rpc_sync("owning", held_by) == ["third"])
        assert torch.equal(rpc.rpc_sync("third", call_kept, (X,)), expected)
        rpc.rpc_sync("owning", keep, (rpc.rpc_sync("third", give_kept),))
        rpc.rpc_sync("third", drop_kept)
        until(lambda: rpc.rpc_sync("owning", held_by) == ["owning"])
        assert torch.equal(rpc.rpc_sync("owning", call_kept, (X,)), expected)
        stub = rpc.rpc_sync("owning", give_kept)
        rpc.rpc_sync("owning", drop_kept)
        until(lambda: rpc.rpc_sync("owning", held_by) == ["leasing"])
        assert torch.equal(stub(X), expected)
        del stub
        gc.collect()
        until(lambda: rpc.rpc_sync("owning", count_hosted) == 0)
    del local
    store.set("done", "yes")


def held_by():
    gc.collect()
    ids = {holder for leased in leases._leased.values() for holder in leased.holders.values()}
    return sorted(info.name for info in rpc.api._get_current_rpc_agent().get_worker_infos() if info.id in ids)


def test_a_module_lives_as_long_as_a_stub_of_it_anywhere(tmp_path):
    play(tmp_path, owning, leasing, third, shared_memory=False)


# -- sends that fail


def expire_soon():
    leases.ON_THE_WAY = 1.0


def failing(store):
    rpc.rpc_sync("owning", expire_soon)
    for form in (lambda stub: stub, lambda stub: torch.jit.script(Ranker(stub))):
        stub = form(make())
        for to in ("owning", "third"):
            with pytest.raises((TypeError, AttributeError), match="pickle|local object"):
                rpc.rpc_sync(to, call_nested, (stub, lambda: 1))
        assert stub(X).shape == (2, 8)
        del stub
        gc.collect()
        until(lambda: rpc.rpc_sync("owning", count_hosted) == 0)
    store.set("done", "yes")


def test_a_stub_that_was_never_sent_holds_nothing_for_good(tmp_path):
    play(tmp_path, owning, failing, third, shared_memory=False)  # to the end: nothing keeps RPC from shutting down


# -- workers that die


def dying(store):
    _kept.append(make())
    rpc.rpc_sync("surviving", keep, (_kept[0],))
    _kept.append(make())
    _kept.append(torch.jit.script(Ranker(make())))
    assert rpc.rpc_sync("owning", count_hosted) == 3
    store.set("made", "yes")
    os.kill(os.getpid(), signal.SIGKILL)


def exiting(store):
    _kept.append(make())
    rpc.rpc_sync("surviving", keep, (_kept[0],))
    _kept.append(make())
    assert rpc.rpc_sync("owning", count_hosted) == 2
    store.set("made", "yes")
    sys.stdout.flush()
    os._exit(0)


def surviving(store):
    store.wait(["made"])
    x = torch.ones(2, 8)
    until(lambda: rpc.rpc_sync("owning", count_hosted) == 1, seconds=10)
    until(lambda: rpc.rpc_sync("owning", held_by) == ["surviving"])
    assert torch.equal(call_kept(x), zoo.LinearEncoder(seed=3)(x, 1.0))  # what it holds lives on
    drop_kept()
    until(lambda: rpc.rpc_sync("owning", count_hosted) == 0)
    store.set("done", "yes")
    print("survived", flush=True)
    os._exit(0)  # an orderly shutdown would wait for the dead


@pytest.mark.parametrize("end", [dying, exiting])
def test_the_modules_of_a_worker_that_ends_are_let_go(tmp_path, end):
    _, _, told = play(tmp_path, owning, end, surviving, shared_memory=False)
    assert "survived" in told
