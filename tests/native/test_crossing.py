"""Calls that wait in their scripted methods: what those leave to Python, and what a signal does just before."""

import contextlib
import gc
import linecache
import signal
import sys
import weakref

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import torchremote as tr
from torchremote import native
from torchremote.caller.calls import crossing
from torchremote.errors import ArgumentError, CallTimeoutError, RemoteError

from .. import zoo
from ..caller.test_interrupts import Napping, Naps
from ..waiting import until

X = torch.ones(2, 8)
LATE = 0.4
"""Seconds: a call that takes so long is left to Python."""


@pytest.fixture
def naps(owner):
    stub = tr.create(owner, Naps, Napping)
    assert stub.nap(0.0) == 1  # from now on, its arguments are known to be exact
    return stub


class Holding(nn.Module):
    naps: Naps

    def __init__(self, stub):
        super().__init__()
        self.naps = stub

    def forward(self, seconds: float) -> int:
        return self.naps.nap(seconds)


def test_a_late_answer_is_left_to_python(naps):
    assert [naps.nap(LATE), naps.nap(0.0), naps.nap(LATE)] == [1, 1, 1]
    assert native.left_behind() is None


def test_an_error_is_left_to_python_and_reads_as_any_other(owner):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    stub(X)
    with pytest.raises(RemoteError, match=r"Encoder\.forward on owner: (addmm: )?mat1 and mat2") as waited:
        stub(torch.ones(2, 3))
    with pytest.raises(RemoteError) as sent:
        stub.forward_async(torch.ones(2, 3)).wait()
    assert str(waited.value) == str(sent.value)
    assert waited.value.__cause__ is None
    assert native.left_behind() is None


def test_a_timeout_is_that_of_the_stub(naps):
    hasty = tr.with_timeout(naps, LATE)
    assert hasty.nap(0.0) == 1
    with pytest.raises(CallTimeoutError, match=r"^Naps\.nap on owner: "):
        hasty.nap(3 * LATE)


def test_a_call_that_is_refused_is_not_taken_for_the_next_one(naps):
    model = torch.jit.script(Holding(naps))
    naps.twice(torch.ones(2))
    with pytest.raises(ArgumentError, match=r"^Naps\.twice\.x: "):
        naps.twice(torch.eye(2).to_mkldnn())  # refused in TorchScript
    assert model(LATE) == 1  # TorchScript waits for it, however long that takes


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
@pytest.mark.filterwarnings("ignore:Profiling a distributed call")
def test_what_is_unusual_on_a_thread_is_seen(owner, name):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    expected = stub(X)
    with {**UNUSUAL, **USUAL}[name]():
        assert bool(native.begin_call()) == (name in USUAL)
        assert native.left_behind() is None
        assert torch.equal(stub(X), expected)


@pytest.mark.parametrize("transform", [torch.vmap, lambda f: torch.func.grad(lambda x: f(x).sum())])
def test_so_is_a_transform(owner, transform):
    stub, seen = tr.create(owner, zoo.Encoder, zoo.LinearEncoder), []
    stub(X)

    def look(x):
        seen.append(native.begin_call())
        with pytest.raises(ArgumentError, match="called under a torch.func transform"):
            stub(X)
        return x

    transform(look)(X)
    assert seen == [0]


def just_before_the_call(then):
    """Makes a tracer that does `then`, once, after a call has begun, where Python may run a signal's handler."""
    done = []

    def line(frame, event, arg):
        text = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and "method(*args)" in text and not done:
            done.append(text)
            then()
        return line

    def trace(frame, event, arg):
        return line if frame.f_code.co_filename == crossing.__file__ else None

    trace.done = done
    return trace


@contextlib.contextmanager
def traced(trace):
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)
    assert len(trace.done) == 1


def test_a_handler_just_before_a_call_may_make_calls(naps):
    found = []

    def handle():
        found.append(naps.nap(LATE))
        with pytest.raises(ArgumentError):
            naps.twice(torch.eye(2).to_mkldnn())

    with traced(just_before_the_call(handle)):
        assert naps.nap(LATE) == 1
    assert found == [1]
    assert naps.nap(LATE) == 1


def test_ctrl_c_just_before_a_call_leaves_nothing_begun(naps):
    model = torch.jit.script(Holding(naps))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with traced(just_before_the_call(lambda: signal.raise_signal(signal.SIGINT))), pytest.raises(KeyboardInterrupt):
            naps.nap(0.0)
    finally:
        signal.signal(signal.SIGINT, before)
    assert model(LATE) == 1
    assert naps.nap(0.0) == 1
