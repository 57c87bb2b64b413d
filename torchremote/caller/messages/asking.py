"""Has workers run functions of ours, and returns the results: the questions of the control plane."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.distributed.rpc as rpc

from ...errors import CallTimeoutError, TorchRemoteError
from ...link.failures import explain
from ...owner.create import Refusal, answering
from .answer import Answer
from .exchange import send, settle
from .failures_later import Failing, Failure, raise_failure
from .settling import later


def ask(worker: str, where: str, function: Callable[..., Any], *args: Any, timeout: float | None) -> Any:
    """Runs `function` on a worker, and returns its result. It runs Python on both workers.

    Args:
        where: the beginning of the error of a refusal, as in "Encoder on ps".
        timeout: seconds; 0 for no limit, None for RPC's default.

    Raises:
        TorchRemoteError: `function` raised it on the worker, or the worker is lost, or it did not answer in time.
    """
    value = settle(*_asked(worker, where, function, args, timeout))
    raise_failure(value)
    return value


def ask_later(worker: str, where: str, function: Callable[..., Any], *args: Any, timeout: float | None) -> Answer[Any]:
    """Does as `ask`, but returns a Future of the result at once. It raises at once if nothing could be sent."""
    answer, unpack, failing = _asked(worker, where, function, args, timeout)
    result: Answer[Any] = later(unpack)(answer, failing, ())
    return result


def _asked(
    worker: str, where: str, function: Callable[..., Any], args: tuple[Any, ...], timeout: float | None
) -> tuple[Any, Callable[[Any], Any], Failing]:
    """Has a worker run `function`. Returns the Future of the answer, and what makes a result or an error of it."""

    def failing(error: Exception) -> TorchRemoteError:
        failure = explain(error, where.partition(" on ")[0], worker)
        if isinstance(failure, CallTimeoutError):
            within = "RPC's default timeout" if timeout is None else f"{timeout:g} s"
            return CallTimeoutError(f"{where}: no answer within {within}; the worker's work goes on\n\n{error}")
        return failure

    def unpack(answer: Any) -> Any:
        return Failure.of(answer.error(f"{where}: {answer.message}")) if isinstance(answer, Refusal) else answer

    limit = {} if timeout is None else {"timeout": timeout}
    sent = send(rpc.rpc_async, (worker, answering, (function, *args)), limit, failing)
    return sent, unpack, failing
