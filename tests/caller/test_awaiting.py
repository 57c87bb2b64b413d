"""Calls and creations in an event loop of asyncio."""

import asyncio
import gc
import threading
import time

import pytest
import torch
from torch import Tensor

import torchremote as tr
from torchremote.caller.messages.settling import when_all
from torchremote.errors import CallTimeoutError, MismatchError, RemoteError, ServedNameError

from .. import zoo

X = torch.ones(2, 8)


@pytest.fixture
def encoder(owner):
    return tr.create(owner, zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": 3})


@pytest.fixture
def slow(owner):
    return tr.create(owner, zoo.Sleeper, zoo.SlowLoop)


def test_a_call_is_awaited(encoder):
    async def main():
        future = encoder.forward_async(X)
        assert isinstance(future, torch.futures.Future)
        values, _ = await encoder.topk_async(X, k=3)
        return await future, values

    y, values = asyncio.run(main())
    assert torch.equal(y, zoo.LinearEncoder.output(3, X))
    assert values.shape == (2, 3)


def test_many_are_awaited_together(encoder):
    async def main():
        return await asyncio.gather(*(encoder.forward_async(X, float(n)) for n in range(50)))

    for n, y in enumerate(asyncio.run(main())):
        assert torch.allclose(y, zoo.LinearEncoder.output(3, X) * n)


def test_batches_are_awaited(encoder):
    async def main():
        every = await encoder.forward_many_async([(X,), (X, 2.0)])
        each = await encoder.forward_many_async([(X,), (torch.ones(2, 5),), (X,)], return_exceptions=True)
        return every, each, await encoder.forward_many_async([], return_exceptions=True)

    every, each, none = asyncio.run(main())
    assert torch.allclose(every[0] * 2, every[1])
    assert isinstance(each[1], RemoteError)
    assert torch.equal(each[0], each[2])
    assert none == []


def test_the_loop_goes_on_while_a_call_is_awaited(slow):
    ticks = []

    async def tick():
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.01)

    async def main():
        ticking = asyncio.create_task(tick())
        await slow.forward_async(torch.zeros(1), 1_000_000)
        ticking.cancel()

    asyncio.run(main())
    assert len(ticks) > 3


def test_errors_are_the_same(owner, encoder, slow):
    async def main():
        with pytest.raises(RemoteError, match="Encoder.forward on owner: .*shapes cannot be multiplied"):
            await encoder.forward_async(torch.ones(2, 5))
        with pytest.raises(CallTimeoutError):
            await tr.with_timeout(slow, 0.1).forward_async(torch.zeros(1), 2_000_000)
        with pytest.raises(MismatchError):
            await tr.create_async(owner, zoo.Encoder, zoo.OtherModule)
        with pytest.raises(ServedNameError):
            await tr.connect_async(owner, zoo.Encoder, "nobody")

    asyncio.run(main())


def test_a_timeout_of_the_loop_and_cancelling_end_the_waiting_alone(slow):
    async def main():
        future = slow.forward_async(torch.zeros(1), 1_000_000)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(wait_for(future), 0.05)
        task = asyncio.create_task(wait_for(future))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await future  # the call goes on

    assert asyncio.run(main()) == 1_000_000


async def wait_for(future):
    return await future


def test_a_loop_may_be_closed_before_the_answer(slow):
    async def main():
        task = asyncio.create_task(wait_for(future))
        await asyncio.sleep(0.01)
        task.cancel()

    future = slow.forward_async(torch.zeros(1), 500_000)
    asyncio.run(main())
    assert future.wait() == 500_000


def test_a_future_is_still_torchs(encoder):
    futures = [encoder.forward_async(X) for _ in range(3)]
    assert all(torch.equal(y, zoo.LinearEncoder.output(3, X)) for y in torch.futures.wait_all(futures))
    assert len(torch.futures.collect_all(futures).wait()) == 3
    doubled = encoder.forward_async(X).then(lambda done: done.value() * 2)
    assert torch.equal(doubled.wait(), zoo.LinearEncoder.output(3, X) * 2)
    told = threading.Event()
    encoder.forward_async(X).add_done_callback(lambda done: told.set())
    assert told.wait(10)
    future = encoder.forward_async(X)
    assert torch.equal(future.wait(), future.value())
    assert future.done()


def test_creations_and_connections_are_awaited(owner):
    async def main():
        first, second = await asyncio.gather(
            tr_create(owner, 1), tr.create_async(owner, zoo.Encoder, zoo.LinearEncoder, name="awaited_stub")
        )
        third = await tr.connect_async(owner, zoo.Encoder, "awaited_stub")
        return await first.forward_async(X), await second.forward_async(X), await third.forward_async(X)

    try:
        y1, y2, y3 = asyncio.run(main())
        assert torch.equal(y1, zoo.LinearEncoder.output(1, X))
        assert torch.equal(y2, y3)
    finally:
        tr.withdraw("awaited_stub", owner)


async def tr_create(owner, seed):
    return await tr.create_async(owner, zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": seed})


def test_nothing_is_kept(encoder):
    class Kept:
        pass

    async def main():
        local = Kept()
        gone.append(weak(local))
        await encoder.forward_async(X)

    from weakref import ref as weak

    gone = []
    asyncio.run(main())
    gc.collect()
    assert gone[0]() is None


def test_when_all_takes_results_and_errors():
    first: torch.futures.Future[Tensor] = torch.futures.Future()
    second: torch.futures.Future[Tensor] = torch.futures.Future()
    every = when_all([first, second], lambda: "done")
    first.set_exception(ValueError("no"))
    assert not every.done()
    second.set_result(X)
    assert every.wait() == "done"
    assert when_all([first], lambda: "complete before").wait() == "complete before"

    def fails():
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        when_all([], fails).wait()
