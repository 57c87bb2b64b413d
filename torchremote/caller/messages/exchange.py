"""Sends the messages of a caller, and waits for their answers.

Calls, asynchronous calls, batches, creations and questions all go through `send` and `settle`. A rule for every message
belongs here: which errors its failures become, how the caller waits for it, how often it is sent.

Messages whose answers nobody needs go out by torch's own functions: those that take back what others began
(creating/pending_stub.py, creating/create_many.py), and those about leases (owner/lives). They have no tensor of
a user's, and if one fails, nobody is told.

Note [Failures in Futures]
    The Future of a failed call keeps the exception. An exception with a traceback refers to frames: those of who
    waited, and, if the answer was there already, those of the caller, where the callback ran. A frame there has the
    Future in a variable. Python cannot collect a cycle through a Future, so the stub would live for ever, and its
    module with it. Therefore no exception that a Future keeps has a traceback.
"""

from __future__ import annotations

import copy
import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import torch
import torch.distributed.rpc as rpc

from ... import _torch, native
from ...errors import CallTimeoutError, TorchRemoteError
from ...link.failures import FAILURES, check_not_forked, explain
from ...owner.create import Refusal, answering
from .awaiting import Answer
from .kept_tensors import keep_tensors, may_be_recorded, until_answered
from .waiting import is_of_a_handler, unless_of_a_handler, wait_until_done

Failing = Callable[[Exception], Exception]
"""Makes the error to raise for one of torch's."""
Catches = tuple[type[Exception], ...]


_is_autocasting, _is_grad_enabled = _torch.is_autocasting, torch.is_grad_enabled
_is_inferring = torch.is_inference_mode_enabled
_PICKLE: Final = (rpc.rpc_async, rpc.remote)  # what they send


def send(
    start: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    failing: Failing = Exception,
    catches: Catches = FAILURES,
    keeps_recorded: bool = not native.available(),
) -> Any:
    """Sends a message: calls `start`, which returns the Future of its answer, or an RRef.

    Args:
        keeps_recorded: keeps the tensors of which autograd may record that they are sent. Links with the native part do
            so themselves: see kept_tensors.py.

    Raises:
        If `start` raises one of `catches`, nothing was sent, and `failing` makes the error to raise. Others pass.
        NotInitializedError: this process was forked from one in which RPC runs. It has none of its threads, so nobody
            would ever answer.
    """
    check_not_forked()
    kept = None
    if (is_pickled := start in _PICKLE) or (keeps_recorded and _is_grad_enabled() and may_be_recorded(args)):
        kept = keep_tensors(args, is_pickled)
    try:
        if _is_autocasting() or _is_inferring():
            # TorchScript would make float32 of every half tensor that it passes to an interface, as to the link.
            with _torch.without_autocast(), _torch.without_inference():
                answer = start(*args, **kwargs)
        else:
            answer = start(*args, **kwargs)
    except unless_of_a_handler(*catches) as error:
        raise failing(error) from None  # its message has everything
    if kept is not None:
        until_answered(answer, kept)
    return answer


def settle(answer: Any, unpack: Callable[[Any], Any] | None, failing: Failing, catches: Catches = FAILURES) -> Any:
    """Waits for a message's answer, and returns it, unpacked by `unpack`.

    It waits in Python. TorchScript would go on in another thread, and the switch costs time. Ctrl-C ends the waiting:
    see waiting.py, Note [Waiting and signals].

    Raises:
        If waiting raises one of `catches`, `failing` makes the error to raise. Others pass.
    """
    wait_until_done(answer)
    try:
        value = answer.wait()
    except unless_of_a_handler(*catches) as error:
        raise failing(error) from None
    return value if unpack is None else unpack(value)


class Failure:
    """Stands in a Future for an error that is made later."""

    def __init__(self, error: Callable[[], BaseException]) -> None:
        """Stands for what `error` makes. It is called where the error is raised, and must not wait."""
        self._error = functools.cache(error)

    @staticmethod
    def of(error: BaseException) -> Failure:
        """Stands for `error`. A bug of ours keeps its traceback, and with it what that refers to."""
        kept = error
        if isinstance(error, TorchRemoteError):
            kept = error.with_traceback(None)
            kept.__context__ = kept.__cause__ = None  # which have tracebacks, too
        return Failure(lambda: kept)

    def __reduce__(self) -> tuple[type, tuple[()]]:
        # torch pickles the value of a Future of accelerators, to find the tensors in it. Here are none.
        return object, ()

    def new(self) -> BaseException:
        """Makes an exception to raise. The one that is kept has no traceback: see Note [Failures in Futures]."""
        error = self._error()
        return copy.copy(error) if isinstance(error, TorchRemoteError) else error


def raise_failure(value: object) -> None:
    """Raises the error for which `value` stands, if it does."""
    if isinstance(value, Failure):
        raise value.new()


class Inquiring(ABC):
    """Makes errors, as any `Failing`, but needs an answer of the owner for some."""

    @abstractmethod
    def __call__(self, error: Exception) -> Exception:
        """Makes the error to raise for one of torch's. Waits for the owner."""

    @abstractmethod
    def later(self, error: Exception, give: Callable[[Failure], None]) -> None:
        """Has `give` take the `Failure` for an error of torch's when the owner has answered. Waits for nobody."""


def fail_later(failing: Failing, error: Exception, give: Callable[[Failure], None]) -> None:
    """Has `give` take the `Failure` for an error of torch's. Waits for nobody.

    An event loop, a callback and the thread of steps.py take a `Failure` where they must not wait, either.
    """
    error = error.with_traceback(None)  # see Note [Failures in Futures]
    if not isinstance(failing, Inquiring):
        give(Failure(partial(failing, error)))
        return
    try:
        failing.later(error, give)
    except Exception as bug:  # without a result, the waiter would wait for ever
        give(Failure.of(bug))


Settle = Callable[[Any, Failing, Sequence[torch.device]], Any]
"""Gives the result of a message, or a Future of it. It takes the answer, what makes errors of failures, and the
accelerators on which tensors of the result may be: a Future waits for their work."""


def at_once(unpack: Callable[[Any], Any] | None) -> Settle:
    """Makes a `Settle` that waits, as `settle` does."""
    return lambda answer, failing, devices: settle(answer, unpack, failing)


def later(unpack: Callable[[Any], Any] | None, on_unwrap: Callable[[Any], None] = raise_failure) -> Settle:
    """Makes a `Settle` that returns a Future at once, of what `settle` would return or raise.

    Args:
        on_unwrap: is called with the value whenever somebody asks for it, and raises the error if it is one.
    """
    # It calls torch's methods in C++, not those of Python around them.
    value_of, complete = _torch.value_of, _torch.complete
    when_done, check_on_unwrap, begin_future = _torch.when_done, _torch.check_on_unwrap, _torch.begin_future
    new = Answer.__new__

    def settle_later(answer: Any, failing: Failing, devices: Sequence[torch.device]) -> Answer[Any]:
        result: Answer[Any] = new(Answer)
        begin_future(result, devices)  # as `Answer(devices)` does, with a frame less
        # The waiter would get an exception of a callback only as text. So the error is raised when the value is
        # unwrapped.
        check_on_unwrap(result, on_unwrap)

        # This runs on an RPC thread and holds the GIL, which the caller needs. So it does as little as possible.
        def settled(done: torch.futures.Future[Any]) -> None:
            try:
                value = value_of(done)
                complete(result, value if unpack is None else unpack(value))
            except FAILURES as error:
                if is_of_a_handler(error):  # in the caller's own frame
                    result.set_result(Failure.of(error))
                    raise
                fail_later(failing, error, result.set_result)
            except Exception as error:  # a bug; without a result, the waiter would wait for ever
                result.set_result(Failure.of(error))
            except BaseException as error:  # as Ctrl-C, in the caller's own frame
                if not result.done():
                    result.set_result(Failure(type(error)))
                raise

        when_done(answer, settled)
        return result

    return settle_later


def _pass_on_with_callback(restore: Callable[[Any], Any] | None) -> Settle:
    """Makes a `Settle` as `later` does, for values that need no unpacking.

    `restore` changes the value in place when somebody asks for it.
    """
    if restore is None:
        return later(None)

    def check(value: Any) -> None:
        raise_failure(value)
        restore(value)

    return later(None, check)


def _pass_on_natively(restore: Callable[[Any], Any] | None) -> Settle:
    """Makes a `Settle` as `_pass_on_with_callback` does. The native part gives the Future its value, without Python."""

    def settle_later(answer: Any, failing: Failing, devices: Sequence[torch.device]) -> Answer[Any]:
        result: Answer[Any] = Answer(devices)
        _torch.check_on_unwrap(result, _Arrived(answer, restore, failing))
        native.pass_on(answer, result)
        return result

    return settle_later


pass_on: Final = _pass_on_natively if native.available() else _pass_on_with_callback


def when_all(futures: Sequence[Any], make: Callable[[], Any], devices: Sequence[torch.device] = ()) -> Answer[Any]:
    """Returns a Future of what `make` returns or raises when all of `futures` are complete, with results or errors.

    Args:
        make: may return a `Failure`. It takes values by `wait`: see awaiting.py, Note [Values on accelerators].
        devices: the accelerators on which tensors of the result may be.
    """
    answer: Answer[Any] = Answer(devices)
    _torch.check_on_unwrap(answer, raise_failure)
    left = itertools.count(len(futures), -1)

    def done(_: object) -> None:
        if next(left) == 0:  # counting is atomic under the GIL
            try:
                answer.set_result(make())
            except Exception as error:  # a bug; without a result, the waiter would wait for ever
                answer.set_result(Failure.of(error))

    for future in futures:
        _torch.when_done(future, done)
    done(None)  # the last one, if all were complete, or if there are none
    return answer


class _Arrived:
    """Looks at the value of a Future that C++ completed. None may stand for an error of the answer."""

    __slots__ = ("_answer", "_failing", "_failure", "_restore")

    def __init__(self, answer: Any, restore: Callable[[Any], Any] | None, failing: Failing) -> None:
        self._restore = restore
        self._answer: Any = answer
        self._failing: Any = failing
        self._failure: Failure | None = None

    def __call__(self, value: Any) -> None:
        answer, failing = self._answer, self._failing
        if value is None and self._failure is None and answer is not None:
            try:
                answer.value()
            except FAILURES as error:
                self._failure = Failure(partial(failing, error.with_traceback(None)))
        if self._failure is not None:
            raise self._failure.new()
        self._answer = self._failing = None  # a Future that has its result keeps no stub
        if self._restore is not None:
            self._restore(value)


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
