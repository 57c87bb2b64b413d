"""Lets event loops of asyncio wait for answers: `await stub.forward_async(x)`, `await create_async(...)`."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import suppress
from typing import Any, TypeVar

import torch

Value = TypeVar("Value")


class Answer(torch.futures.Future[Value]):
    """A Future of a call's result. It can be awaited in an event loop, too."""

    def __await__(self) -> Generator[Any, None, Value]:
        yield from until_done(self)
        return self.wait()


def until_done(future: Any) -> Generator[Any, None, None]:
    """Waits in the running event loop until a Future of torch is complete. Cancelling it ends the waiting alone."""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()

    def wake() -> None:
        if not waiter.done():  # it was cancelled, otherwise
            waiter.set_result(None)

    def done(_: object) -> None:
        with suppress(RuntimeError):  # the loop was closed, and nobody waits any more
            loop.call_soon_threadsafe(wake)

    future.add_done_callback(done)
    yield from waiter
