"""Lets event loops of asyncio wait for answers: `await stub.forward_async(x)`, `await create_async(...)`.

Note [Values on accelerators]
    A Future may be complete while its tensors are still being copied to an accelerator, in streams of torch's. Its
    `wait` has the current streams of the thread wait for that, and so has torch before it calls a callback. Its `value`
    has not. `set_result` takes the state of the current streams, for the devices that the Future was made with, as what
    its waiters wait for. So whoever takes a value from one Future to another waits for the first one, if this is not
    its callback, in the same thread, and makes the second one with the devices.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import torch

from ... import _torch
from ...errors import RemoteError
from ...link.failures import NOT_UTF8, check_not_forked
from .waiting import wait_until_done

Value = TypeVar("Value")


class Answer(torch.futures.Future[Value]):
    """A Future of a call's result. It can be awaited in an event loop, too, and Ctrl-C ends its `wait`."""

    def __init__(self, devices: Sequence[torch.device] = ()) -> None:
        _torch.begin_future(self, devices)  # takes half as long as torch's own `__init__`

    def wait(self) -> Value:
        wait_until_done(self)
        try:
            value: Value = super().wait()
        except UnicodeDecodeError as error:  # it is raised before anybody can say what was called
            raise RemoteError(f"a call: {NOT_UTF8}: {error}") from None
        return value

    def __await__(self) -> Generator[Any, None, Value]:
        yield from until_done_in_loop(self)
        return self.wait()


def until_done_in_loop(future: Any) -> Generator[Any, None, None]:
    """Waits in the running event loop until a Future of torch is complete. Cancelling it ends the waiting alone."""
    if not future.done():
        check_not_forked()
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()

    def wake() -> None:
        if not waiter.done():  # it was cancelled, otherwise
            waiter.set_result(None)

    def done(_: object) -> None:
        with suppress(RuntimeError):  # the loop was closed, and nobody waits any more
            loop.call_soon_threadsafe(wake)

    _torch.when_done(future, done)
    yield from waiter
