"""Calls that wait and are sent by less Python: what they do where something is unusual, late or an error."""

import contextlib
import ctypes
import gc
import importlib
import inspect
import os
import signal
import time
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import torchremote as tr
from torchremote import native
from torchremote.errors import ArgumentError, CallTimeoutError, NotInitializedError, RemoteError
from torchremote.link.failures import FORKED

from .. import zoo
from ..caller.test_forked import told_in_a_child
from ..caller.test_interrupts import Napping, Naps
from ..group import play
from ..waiting import until

X = torch.ones(2, 8)
LATE = 0.4
"""Seconds, of a call for whose answer C++ does not wait in one turn."""


@pytest.fixture
def naps(owner):
    stub = tr.create(owner, Naps, Napping)
    assert stub.nap(0.0) == 1  # from now on, its arguments are known to be exact
    return stub


def test_late_answers_are_waited_for(naps):
    assert [naps.nap(LATE), naps.nap(0.0), naps.nap(LATE)] == [1, 1, 1]


def forking(store):
    stub = tr.create("forking", zoo.Encoder, zoo.LinearEncoder, name="forked")
    for _ in range(2):
        stub(X)
    told = told_in_a_child(lambda: stub(X))
    assert told.startswith(NotInitializedError.__name__), told
    assert FORKED in told


def test_a_forked_child_says_that_it_has_no_rpc(tmp_path):
    play(tmp_path, forking)


def test_an_error_reads_as_any_other(owner):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    stub(X)
    with pytest.raises(RemoteError, match=r"Encoder\.forward on owner: (addmm: )?mat1 and mat2") as waited:
        stub(torch.ones(2, 3))
    with pytest.raises(RemoteError) as sent:
        stub.forward_async(torch.ones(2, 3)).wait()
    assert str(waited.value) == str(sent.value)
    assert waited.value.__cause__ is None


def test_a_timeout_is_that_of_the_stub(naps):
    hasty = tr.with_timeout(naps, 1.0)
    assert hasty.nap(0.0) == 1
    with pytest.raises(CallTimeoutError, match=r"^Naps\.nap on owner: "):
        hasty.nap(3.0)


def test_a_call_that_is_refused_leaves_no_patience(naps):
    naps.twice(torch.ones(2))
    with pytest.raises(ArgumentError, match=r"^Naps\.twice\.x: "):
        naps.twice(torch.eye(2).to_mkldnn())  # refused in TorchScript
    pending = naps.nap_async(1.0)
    assert not pending.done()  # the call returned before its answer was there
    assert pending.wait() == 1


def in_torchs_tests(store):
    """Is refused a call where `torch.testing` has put functions of Python in the place of how methods are called."""
    importlib.import_module("torch.testing._internal.common_utils")
    assert inspect.isfunction(torch._C.ScriptMethod.__call__)
    naps = tr.create("in_torchs_tests", Naps, Napping)
    naps.twice(torch.ones(2))
    with pytest.raises(ArgumentError, match=r"^Naps\.twice\.x: "):
        naps.twice(torch.eye(2).to_mkldnn())
    wrapped = torch._C.ScriptMethod.__call__
    torch._C.ScriptMethod.__call__ = lambda method, *args, **kwargs: wrapped(method, *args, **kwargs)  # as a profiler
    with pytest.raises(ArgumentError, match=r"^Naps\.twice\.x: "):
        naps.twice(torch.eye(2).to_mkldnn())
    print("refused", flush=True)


def test_an_error_is_explained_also_where_torch_wraps_methods(tmp_path):
    assert "refused" in play(tmp_path, in_torchs_tests)[0]


@pytest.mark.parametrize("bad", [lambda: torch.ones(2, 3), lambda: torch.eye(8).to_mkldnn()])
def test_a_call_that_fails_keeps_nothing(owner, bad):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    stub(X)
    x = bad()
    gone = weakref.ref(x)
    gc.disable()  # nothing is in a cycle
    try:
        with pytest.raises((ArgumentError, RemoteError)) as raised:
            stub(x)
        del x, raised
        until(lambda: gone() is None)
    finally:
        gc.enable()


class Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


UNUSUAL = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "mode": Mode,
    "profiler": lambda: torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]),
}
USUAL = {
    "nothing": contextlib.nullcontext,
    "no_grad": torch.no_grad,
    "inference mode": torch.inference_mode,
    "a device": lambda: torch.device("cpu"),
}


@pytest.mark.parametrize("name", [*UNUSUAL, *USUAL])
@pytest.mark.filterwarnings("ignore::UserWarning:torch")
def test_what_is_unusual_on_a_thread_is_seen(owner, name):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    expected = stub(X)
    with {**UNUSUAL, **USUAL}[name]():
        assert bool(native.wait_in_next_call(ctypes.c_double(0.0))) == (name in USUAL)
        assert torch.equal(stub(X), expected)


@pytest.mark.parametrize("transform", [torch.vmap, lambda f: torch.func.grad(lambda x: f(x).sum())])
def test_so_is_a_transform(owner, transform):
    stub, seen = tr.create(owner, zoo.Encoder, zoo.LinearEncoder), []
    stub(X)

    def look(x):
        seen.append(native.wait_in_next_call(ctypes.c_double(0.0)))
        with pytest.raises(ArgumentError, match="called under a torch.func transform"):
            stub(X)
        return x

    transform(look)(X)
    assert seen == [0]


@tr.remote_scriptable
class LaterNaps:
    def nap(self, seconds: float) -> int: ...
    def twice(self, x: Tensor) -> Tensor: ...


_when_begun = []
"""What is done, once, where a call of `LaterNaps` has begun: Python may run a signal's handler there."""


def wait_in_next_call(seconds, begin=native.wait_in_next_call):
    begun = begin(seconds)
    if _when_begun:
        _when_begun.pop()()
    return begun


@pytest.fixture
def later_naps(owner, monkeypatch):
    monkeypatch.setattr(
        native, "wait_in_next_call", wait_in_next_call
    )  # the class of its stubs is made below, and keeps it
    stub = tr.create(owner, LaterNaps, Napping)
    assert stub.nap(0.0) == 1
    stub.twice(torch.ones(2))
    return stub


def test_a_handler_just_before_a_call_may_make_calls(later_naps):
    found = []

    def handle():
        found.append(later_naps.nap(LATE))
        with pytest.raises(ArgumentError):
            later_naps.twice(torch.eye(2).to_mkldnn())

    _when_begun.append(handle)
    assert later_naps.nap(LATE) == 1
    assert found == [1]
    assert later_naps.nap(LATE) == 1


def test_ctrl_c_just_before_a_call_leaves_no_patience(later_naps):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        _when_begun.append(lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            later_naps.nap(0.0)
    finally:
        signal.signal(signal.SIGINT, before)
    pending = later_naps.nap_async(1.0)
    assert not pending.done()
    assert pending.wait() == 1


class Mine(RuntimeError):
    """As torch's errors are."""


@tr.remote_scriptable
class Signals:
    def forward(self, process: int, number: int, seconds: float) -> int: ...


class Signalling(nn.Module):
    """Sends a signal to its caller, and answers some seconds later."""

    @torch.jit.ignore
    def send(self, process: int, number: int, seconds: float) -> int:
        os.kill(process, number)
        time.sleep(seconds)
        return 1

    def forward(self, process: int, number: int, seconds: float) -> int:
        return self.send(process, number, seconds)


@pytest.mark.parametrize("seconds", [0.03, LATE], ids=["in the first turn", "later"])
def test_what_a_handler_raises_or_calls_during_a_call_is_its_own(owner, naps, seconds):
    """The signal comes while C++ waits, so the handler runs when that returns."""

    def fail(number, frame):
        raise Mine("eof")

    answers, signals = [], tr.create(owner, Signals, Signalling)
    handlers = {signal.SIGUSR1: fail, signal.SIGUSR2: lambda number, frame: answers.append(naps.nap(0.0))}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        assert signals(os.getpid(), 0, 0.0) == 1  # sends none
        with pytest.raises(Mine) as raised:
            signals(os.getpid(), int(signal.SIGUSR1), seconds)
        assert raised.value.__context__ is None
        assert signals(os.getpid(), int(signal.SIGUSR2), seconds) == 1
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert answers == [1]
