"""No message holds a tensor that Python knows by itself: see jit/runtime/tensors.py, Note [Tensors that Python knows].

Otherwise, two threads that drop RRefs while others call could wait for each other for ever.
"""

import subprocess
import sys
import warnings
import weakref
from collections import deque
from functools import partial

import pytest
import torch
import torch.distributed.rpc as rpc

import torchremote as tr
from torchremote import remote_module
from torchremote.caller.messages.kept_tensors import keep_tensors
from torchremote.jit.script.common import common_definitions
from torchremote.owner.lives import holders

from .. import zoo
from ..waiting import until

ROUNDS = 50_000  # of some microseconds


class SlowToBuild(zoo.SlowLoop):
    def __init__(self, parts):
        super().__init__()
        self(parts["x"][0], ROUNDS)


@pytest.fixture
def sleeper(owner):
    return tr.create(owner, zoo.Sleeper, zoo.SlowLoop)


def references_meanwhile(sleeper, tensor, is_done):
    """Returns how many references C++ has to a tensor of a call that runs. Python's own is one of them."""
    sleeper(torch.ones(1), 1)  # the message before this one is written
    count = tensor._use_count()
    assert not is_done()
    return count


def quantized():
    with warnings.catch_warnings(action="ignore"):  # torch will remove it
        yield torch.quantize_per_tensor(torch.randn(3), 0.1, 0, torch.quint8)
        scales, zero_points = torch.tensor([0.1, 0.2]), torch.zeros(2)
        yield torch.quantize_per_channel(torch.randn(2, 3), scales, zero_points, 0, torch.qint8)


BY_TENSOR, BY_CHANNEL = quantized()
SPARSE = torch.eye(3).to_sparse()
TENSORS = {
    "dense": torch.randn(3, 4),
    "scalar": torch.tensor(3.0),
    "empty": torch.empty(0, 3),
    "strided": torch.randn(4, 6)[:, ::2],
    "lazy": torch.randn(3, dtype=torch.complex64).conj(),
    "sparse": SPARSE,
    "coalesced": SPARSE.coalesce(),
    "quantized": BY_TENSOR,
    "by channel": BY_CHANNEL,
    "with a gradient": torch.randn(3, requires_grad=True),
    "sparse, with a gradient": SPARSE.clone().requires_grad_(),
}


@pytest.mark.parametrize("value", TENSORS.values(), ids=TENSORS)
def test_another_tensor_is_prepared_in_its_place(value):
    prepared = common_definitions()["prepared"]
    for _ in range(3):  # TorchScript optimises it meanwhile
        with torch.no_grad():
            sent = prepared(value, [], "here", [])
        assert sent is not value
        assert sent._use_count() == 1
        for what in ("shape", "dtype", "layout", "requires_grad"):
            assert getattr(sent, what) == getattr(value, what)
        assert sent.is_conj() == value.is_conj()
        if value.is_sparse:
            assert sent.is_coalesced() == value.is_coalesced()
            assert torch.equal(sent.to_dense(), value.to_dense())
        else:
            assert torch.equal(sent, value)
            if value.numel() and not value.is_quantized and not value.is_conj():
                assert (sent.data_ptr(), sent.stride()) == (value.data_ptr(), value.stride())


def test_a_call_holds_no_tensor_of_the_caller(sleeper):
    x = torch.ones(3)
    for _ in range(3):
        future = sleeper.forward_async(x, ROUNDS)
        assert x._use_count() == references_meanwhile(sleeper, x, future.done) == 1
        assert torch.equal(future.wait(), x + ROUNDS)


def test_keys_are_kept_as_values_are():
    key, value = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    kept = keep_tensors([[{key: value}]], is_pickled=False)
    assert kept is not None
    assert (key._use_count(), value._use_count()) == (2, 2)


INTERRUPTED = """
import random, signal, torch
from torchremote.caller.messages.kept_tensors import keep_tensors
signal.signal(signal.SIGALRM, signal.default_int_handler)
kept = [torch.ones(2, requires_grad=True), torch.ones(3)]
interrupted = 0
while interrupted < 2000:
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 5e-5))
            while True:
                keep_tensors(kept, is_pickled=True)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        interrupted += 1
"""


def test_ctrl_c_at_any_moment_does_no_harm():
    """Where C++ finds the type of a list, it runs Python, and crashes if that raises."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", INTERRUPTED], check=True, timeout=60)


@pytest.mark.parametrize("call", ["forward_async", "forward_remote", "forward_many_async"])
def test_a_call_with_gradients_does_not_hold_it_alone(sleeper, call):
    x = torch.ones(3, requires_grad=True)
    answer = getattr(sleeper, call)(*([(x, ROUNDS)],) if "many" in call else (x, ROUNDS))
    done = answer._get_future().done if "remote" in call else answer.done
    assert references_meanwhile(sleeper, x, done) > 1
    until(lambda: x._use_count() == 1)


@pytest.mark.parametrize(
    "creation",
    [
        lambda x: (SlowToBuild, ({"x": [x]},)),
        lambda x: (SlowToBuild, ({"x": deque([x])},)),
        lambda x: (partial(SlowToBuild, {"x": [x]}),),
    ],
    ids=["in a list", "in an object", "in a partial"],
)
def test_a_creation_does_not_hold_it_alone(sleeper, owner, creation):
    x = torch.ones(3)
    pending = tr.create_async(owner, zoo.Sleeper, *creation(x))
    assert references_meanwhile(sleeper, x, pending.done) > 1
    pending.wait()
    until(lambda: x._use_count() == 1)


def test_a_creation_without_an_interface_does_not_hold_it_alone(sleeper, owner):
    x = torch.ones(3)
    module = remote_module.RemoteModule(owner, SlowToBuild, ({"x": [x]},))
    assert references_meanwhile(sleeper, x, module.module_rref._get_future().done) > 1
    until(lambda: x._use_count() == 1)


def test_a_module_without_an_interface_does_not_hold_it_alone(sleeper, owner):
    x = torch.ones(3)
    future = remote_module.RemoteModule(owner, zoo.SlowLoop).forward_async(x, ROUNDS)
    assert references_meanwhile(sleeper, x, future.done) > 1
    assert torch.equal(future.wait(), x + ROUNDS)
    until(lambda: x._use_count() == 1)


def test_an_owner_that_asks_for_a_sign_of_life_makes_no_tensor_for_it(monkeypatch):
    sent = []
    monkeypatch.setattr(rpc, "rpc_async", lambda worker, function, args: sent.append(weakref.ref(args[0])))
    holders._ask(0)
    assert sent[0]() is not None
