"""Batches that fail while the owner's Python is busy: only who waits for them waits for which call it was."""

import asyncio
import ctypes
import itertools
import threading
import time

import pytest
import torch.distributed.rpc as rpc
from torch import nn

import torchremote as tr
from torchremote.caller.messages.steps import call_soon, run_later
from torchremote.errors import RemoteError

BUSY, AT_ONCE = 3, 1.0  # seconds


@tr.remote_scriptable
class Failing:
    def once(self, number: int) -> int: ...
    @tr.idempotent
    def again(self, number: int) -> int: ...


class FailsBelowZero(nn.Module):
    def once(self, number: int) -> int:
        if number < 0:
            raise ValueError("negative")
        return number

    def again(self, number: int) -> int:
        return self.once(number)


CALLS = [(1,), (-1,)]


def hold(seconds):
    ctypes.PyDLL(None).sleep(seconds)  # with the GIL, as an extension may


@pytest.fixture
def stub(owner):
    """A stub of a module whose owner has no time to say which call of a batch failed."""
    stub = tr.create(owner, Failing, FailsBelowZero)
    stub.again(1)
    held = rpc.rpc_async(owner, hold, (BUSY,))
    time.sleep(0.3)
    yield stub
    held.wait()


def fails():
    return pytest.raises(RemoteError, match=r"_many on owner: calls\[1\]: .*negative")


@pytest.mark.parametrize("method", ["once", "again"])
def test_an_event_loop_goes_on(stub, method):
    beats = []

    async def beat():
        while True:
            beats.append(time.monotonic())
            await asyncio.sleep(0.05)

    async def wait():
        beating = asyncio.create_task(beat())
        with fails():
            await getattr(stub, f"{method}_many_async")(CALLS)
        beats.append(time.monotonic())
        beating.cancel()

    asyncio.run(wait())
    assert beats[-1] - beats[0] > AT_ONCE, "the owner had to be busy"
    assert max(later - one for one, later in itertools.pairwise(beats)) < AT_ONCE


@pytest.mark.parametrize("method", ["once", "again"])
def test_answers_arrive(stub, method):
    here = tr.create("caller", Failing, FailsBelowZero)  # the owner's threads wait for its Python
    batches = [getattr(stub, f"{method}_many_async")(CALLS) for _ in range(20)]  # more than RPC has threads
    seen = [batch.then(look) for batch in batches]
    time.sleep(0.3)
    start = time.monotonic()
    assert here.again_async(5).wait() == 5
    assert time.monotonic() - start < AT_ONCE
    for batch in seen:
        assert batch.wait()


def look(done):
    with fails():
        done.value()
    return True


def test_the_thread_of_steps_goes_on(stub):
    def step():
        yield stub.once_many_async(CALLS)

    given, went_on, ended = [], threading.Event(), threading.Event()
    run_later(step(), lambda value: given.append(value) or ended.set(), True)
    time.sleep(0.3)
    call_soon(went_on.set)
    assert went_on.wait(AT_ONCE)
    assert ended.wait(2 * BUSY)
    with fails():
        raise given[0].new()


def test_replicas_too(stub, owner):
    tr.create(owner, Failing, FailsBelowZero, name="failing")
    together = tr.connect([owner], Failing, "failing")
    held = rpc.rpc_async(owner, hold, (BUSY,))
    time.sleep(0.3)
    batch = together.once_many_async(CALLS)
    time.sleep(0.3)
    assert not batch.done()
    with fails():
        batch.wait()
    held.wait()
    tr.withdraw("failing", owner)
