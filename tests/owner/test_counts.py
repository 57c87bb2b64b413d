"""Calls that are counted: all of them, whatever becomes of them, and nothing is kept alive."""

import gc
import keyword
import threading
import weakref

import pytest
import torch

import torchremote as tr
from torchremote import _torch, native
from torchremote.jit import compile_interface
from torchremote.jit.lower.names import REPLACED, TAKEN
from torchremote.jit.owner_units import counted_module
from torchremote.owner.running.counts import CallStats, upper_bound
from torchremote.owner.scripting import scripted_module

from .. import owner_process as remote
from .. import zoo
from ..groups import roles
from ..groups.nursery import in_a_group


def counts_of(worker, name):
    (module,) = (module for module in tr.stats(worker).modules if module.name == name)
    return module.calls


@in_a_group(timeout=150)
def test_calls_are_counted_exactly(nursery):
    nursery.join("ps", counts=True)
    stub = tr.create("ps", zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": 0}, name="encoder")
    x = torch.ones(2, 8)

    def call():
        for _ in range(100):
            stub(x)
        stub.forward_many([(x,)] * 50)

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(stub(x), roles.expected(x))
    for _ in range(3):
        with pytest.raises(tr.errors.RemoteError, match="Encoder.fail on ps"):
            stub.fail(x)
    calls = counts_of("ps", "encoder")
    assert (calls["forward"].calls, calls["forward"].failures) == (8 * 150 + 1, 0)
    assert (calls["fail"].calls, calls["fail"].failures) == (3, 3)
    assert calls["topk"].calls == 0
    assert calls["topk"].quantile(0.5) is None
    assert 0 < calls["forward"].quantile(0.5) < calls["forward"].quantile(1) < 10
    tr.create("ps", zoo.Encoder, zoo.LinearEncoder, name="encoder", if_exists="replace")
    stub(x)
    assert counts_of("ps", "encoder")["forward"].calls == 8 * 150 + 2, "it is the same stub's module, and goes on"


@in_a_group(timeout=150)
def test_modules_that_run_in_turn_and_what_waits(nursery):
    nursery.join("ps", counts=True, in_turn=True)
    far = tr.create("ps", zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": 0}, name="far", in_turn=True)
    x = torch.ones(2, 8)
    answers = [far.forward_async(x) for _ in range(20)]
    assert all(torch.equal(answer.wait(), roles.expected(x)) for answer in answers)
    with pytest.raises(tr.errors.RemoteError):
        far.fail(x)
    calls = counts_of("ps", "far")
    assert (calls["forward"].calls, calls["fail"].failures) == (20, 1)


@in_a_group(timeout=150)
def test_nothing_is_counted_unless_it_is_asked_for(nursery):
    nursery.join("ps")
    stub = tr.create("ps", zoo.Encoder, zoo.LinearEncoder, name="encoder")
    stub(torch.ones(2, 8))
    assert counts_of("ps", "encoder") is None


def test_a_module_that_counts_keeps_none_alive(monkeypatch):
    contract = compile_interface(zoo.Encoder).contract
    module = scripted_module(zoo.LinearEncoder(), contract.interface)
    weight = weakref.ref(module.linear.weight)
    counted = counted_module(contract, module, native.new_counts() if native.available() else "1 ")
    x = torch.ones(2, 8)
    assert torch.equal(counted.forward(x, 1.0), module.forward(x, 1.0))
    del module, counted
    gc.collect()
    assert weight() is None


def test_arguments_may_have_any_name():
    names = {
        *TAKEN.difference(REPLACED, keyword.kwlist),
        "self_",
        "counting",
        "result",
        "begin_counting",
        "end_counting",
    }
    signatures = (f"m{number:03}({name}: int) -> int" for number, name in enumerate(sorted(names)))
    contract = compile_interface(zoo.interface_of("\n".join(signatures), "OfAnyName")).contract
    arguments = [method.arguments[0].name for method in contract.interface.methods]
    methods = (f"def method_{n}(this, {name}: int) -> int:\n    return {name} + 1" for n, name in enumerate(arguments))
    module = scripted_module(remote.module_of(contract, "\n".join(methods)), contract.interface)
    counted = counted_module(contract, module, native.new_counts() if native.available() else "2 ")
    assert [getattr(counted, method.name)(1) for method in contract.interface.methods] == [2] * len(arguments)


def test_quantiles_and_differences():
    before = CallStats(1, {10: 5})
    now = CallStats(3, {10: 15, 40: 90})
    new = now.after(before)
    assert new == CallStats(2, {10: 10, 40: 90})
    assert new.calls == 102
    assert upper_bound(9) < new.quantile(0.1) < upper_bound(10) < upper_bound(39) < new.quantile(0.2) < upper_bound(40)
    assert 1.0 < upper_bound(80) < 1.3  # 20 octaves above a microsecond


def test_no_logger_is_set_without_need():
    assert not _torch.is_counting()
