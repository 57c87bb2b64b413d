"""The one place where a caller's messages are sent, and the one where their answers are waited for.

Calls, calls in flight, batches, creations and questions all come through `send` and `settle`. What is to hold for every
message belongs here: what its failures become, how it is waited for, how often it is sent.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed.rpc as rpc

from .. import _torch
from ..errors import TorchRemoteError
from ..link.failures import FAILURES, explain
from ..owner.create import Refusal, answering

Failing = Callable[[Exception], Exception]
"""Makes the error to raise for one of torch's."""
Catches = tuple[type[Exception], ...]


def send(
    start: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    failing: Failing,
    catches: Catches = FAILURES,
) -> Any:
    """Sends a message: calls `start`, which returns the Future of its answer.

    Raises:
        What `failing` makes of an error that `catches` has, raised before anything was sent. Other errors pass.
    """
    try:
        return start(*args, **kwargs)
    except catches as error:
        raise failing(error) from None  # the message has all of it


def settle(answer: Any, unpack: Callable[[Any], Any] | None, failing: Failing, catches: Catches = FAILURES) -> Any:
    """Waits for a message's answer, and returns what `unpack` makes of it.

    It waits in Python: TorchScript would go on in another thread, and switching threads takes longer.

    Raises:
        What `failing` makes of an error that `catches` has.
    """
    try:
        value = answer.wait()
    except catches as error:
        raise failing(error) from None
    return value if unpack is None else unpack(value)


def settle_later(answer: Any, unpack: Callable[[Any], Any] | None, failing: Failing) -> Any:
    """Returns a Future of what `settle` would return or raise."""

    # Runs on a thread of RPC's, and keeps the GIL from the caller meanwhile: the shorter, the more calls a second.
    def settled(done: torch.futures.Future[Any]) -> Any:
        try:
            value = done.value()
            return value if unpack is None else unpack(value)
        except FAILURES as error:
            return _Failure(partial(failing, error))

    # An exception out of a callback would reach the waiter as text; torch's own way is to raise on unwrapping.
    future = answer.then(settled)
    _torch.check_on_unwrap(future, _raise_failure)
    return future


class _Failure:
    def __init__(self, error: Callable[[], Exception]) -> None:
        # Made where it is raised: it may have to ask the owner, which a callback, on a thread of RPC's, should not.
        self.error = functools.cache(error)


def _raise_failure(value: object) -> None:
    if isinstance(value, _Failure):
        raise value.error()


def ask(worker: str, where: str, function: Callable[..., Any], *args: Any, timeout: float) -> Any:
    """Asks a worker for what `function` returns there, through Python on both sides.

    Args:
        where: begins the error of a refusal, as "Encoder on ps".
        timeout: seconds; 0 for no limit.

    Raises:
        TorchRemoteError: as `function` raised it there, or the worker is lost.
    """

    def failing(error: Exception) -> TorchRemoteError:
        return explain(error, where.partition(" on ")[0], worker)

    sent = send(rpc.rpc_async, (worker, answering, (function, *args)), {"timeout": timeout}, failing)
    answer = settle(sent, None, failing)
    if isinstance(answer, Refusal):
        raise answer.error(f"{where}: {answer.message}")
    return answer
