"""Batches that fail while the owner's Python is busy: only who waits for them waits for which call it was."""

import asyncio
import threading

import pytest
from torch import nn

import torchremote as tr
from torchremote.caller.messages.clock import call_soon
from torchremote.caller.messages.steps import run_later
from torchremote.errors import RemoteError

from ..waiting import holding_the_gil

BUSY = 3.0  # seconds


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


@pytest.fixture
def stub(owner):
    stub = tr.create(owner, Failing, FailsBelowZero)
    stub.again(1)
    return stub


def until_failed(stub):
    """Returns when batches that were sent before have failed on the owner, and their errors are here."""
    for _ in range(100):
        assert stub.again_async(5).wait() == 5


def fails():
    return pytest.raises(RemoteError, match=r"_many on owner: calls\[1\]: .*negative")


@pytest.mark.parametrize("method", ["once", "again"])
def test_an_event_loop_goes_on(owner, stub, method):
    held, beats = holding_the_gil(owner, BUSY), 0

    async def beat():
        nonlocal beats
        while not held.done():
            beats += 1
            await asyncio.sleep(0.05)

    async def wait():
        beating = asyncio.create_task(beat())
        with fails():
            await getattr(stub, f"{method}_many_async")(CALLS)
        await beating

    asyncio.run(wait())
    assert beats > 10  # of sixty; two at most if the loop waits for the owner


@pytest.mark.parametrize("method", ["once", "again"])
def test_who_takes_an_error_does_not_wait(owner, stub, method):
    taken = []

    def take(done):
        taken.append(done)
        with fails():
            done.value()
        return True

    held = holding_the_gil(owner, BUSY)
    batches = [getattr(stub, f"{method}_many_async")(CALLS).then(take) for _ in range(20)]  # more than RPC has threads
    until_failed(stub)
    early = list(taken)
    if not held.done():  # else the machine was too busy to tell
        assert not early
    for batch in batches:
        assert batch.wait()


def test_the_thread_of_steps_goes_on(owner, stub):
    def step():
        yield stub.once_many_async(CALLS)

    held = holding_the_gil(owner, BUSY)
    given, went_on, ended = [], threading.Event(), threading.Event()
    run_later(step(), lambda value: given.append(value) or ended.set(), True)
    until_failed(stub)
    call_soon(went_on.set, print)
    assert went_on.wait(60)
    assert not held.done()
    assert ended.wait(60)
    with fails():
        raise given[0].new()


def test_replicas_too(owner):
    tr.create(owner, Failing, FailsBelowZero, name="failing")
    together = tr.connect([owner], Failing, "failing")
    held = holding_the_gil(owner, BUSY)
    batch = together.once_many_async(CALLS)
    until_failed(together)
    is_done = batch.done()
    if not held.done():  # else the machine was too busy to tell
        assert not is_done
    with fails():
        batch.wait()
    tr.withdraw("failing", owner)
