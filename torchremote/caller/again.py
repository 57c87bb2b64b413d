"""Sends calls again, from Python: those that did not run, and lost ones of methods that are declared idempotent.

Note [Sent again]
    A call that the owner refused because it does not have the module any more has not run. It is sent again, once, when
    the module was found: see methods.py, Note [Stubs that follow]. A call that got lost may have run. It is sent again
    only if its method is declared `@idempotent`, with growing pauses, until the stub's timeout has passed. The last try
    has what is left of that timeout.

    In a context of distributed autograd, torch records every message when it is sent, and `backward` waits for the
    gradients of each. Those of a call that was lost never come. So there a call is sent again only if nothing was sent
    before. A call with `_async` would be sent again by a thread that is not in the context: there it never is.
"""

from __future__ import annotations

import functools
import math
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import torch
import torch.distributed.rpc as rpc

from .. import _torch
from ..errors import NotInGroupError, StaleStubError, TorchRemoteError, WireError
from ..link.route import route_of
from .awaiting import Answer
from .exchange import Failure, raise_failure
from .methods import DEVICES, METHODS, NamedStubMethods

_is_profiling = _torch.is_profiling

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0
"""Seconds between two tries of an idempotent call. Each pause is twice the one before, less a random part."""
_RECORDED: Final = "not sent again, because dist_autograd has recorded the call; begin the step again, in a new context"


def sent_again(once: Callable[..., Any], in_range: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """Returns a method that does what `once` does, and sends a call again that has not run.

    Args:
        in_range: what it calls instead while a profiler records.
    """

    @functools.wraps(once)
    def call(self_: Any, /, *args: Any, **kwargs: Any) -> Any:
        if in_range is not None and _is_profiling():
            return in_range(self_, *args, **kwargs)
        try:
            return once(self_, *args, **kwargs)
        except StaleStubError as error:
            if not (_follows(self_) and may_be_sent_again(error)):
                raise
        return once(self_, *args, **kwargs)

    return call


def sent_until_timeout(once: Callable[..., Any], in_range: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """Returns a method that does what `once` does, and sends a lost call again until its stub's timeout has passed.

    Args:
        in_range: what it calls instead while a profiler records.
    """

    @functools.wraps(once)
    def call(self_: Any, /, *args: Any, **kwargs: Any) -> Any:
        if in_range is not None and _is_profiling():
            return in_range(self_, *args, **kwargs)
        began = time.monotonic()
        try:
            return once(self_, *args, **kwargs)
        except (StaleStubError, WireError) as error:
            if not (_follows(self_) and may_be_sent_again(error)):
                raise
            failure: TorchRemoteError = error
        return _try_again(once, self_, args, kwargs, began, failure)

    return call


def sent_until_timeout_later(
    once_async: Callable[..., Any], once: Callable[..., Any], in_range: Callable[..., Any] | None = None
) -> Callable[..., Answer[Any]]:
    """Returns a method that does what `once_async` does, and sends a lost call again as `sent_until_timeout` does.

    Args:
        once: makes the same call, and waits.
        in_range: what it calls instead while a profiler records.
    """

    @functools.wraps(once_async)
    def call(self_: Any, /, *args: Any, **kwargs: Any) -> Any:
        if in_range is not None and _is_profiling():
            return in_range(self_, *args, **kwargs)
        if not _follows(self_) or _torch.is_recording_calls():
            return once_async(self_, *args, **kwargs)
        began, grad_mode = time.monotonic(), torch.is_grad_enabled()
        result: Answer[Any] = Answer(self_.__dict__[DEVICES])
        _torch.check_on_unwrap(result, raise_failure)

        def try_again(failure: TorchRemoteError) -> None:
            try:
                with torch.set_grad_enabled(grad_mode):  # this thread has one of its own
                    result.set_result(_try_again(once, self_, args, kwargs, began, failure))
            except Exception as error:
                result.set_result(Failure.of(error))

        def settled(done: torch.futures.Future[Any]) -> None:
            try:
                result.set_result(done.value())
            except (StaleStubError, WireError) as error:
                patient.submit(functools.partial(try_again, error))
            except Exception as error:
                result.set_result(Failure.of(error))

        try:
            once_async(self_, *args, **kwargs).add_done_callback(settled)
        except (StaleStubError, WireError) as error:
            patient.submit(functools.partial(try_again, error))
        return result

    return call


class _Patient:
    """Threads that wait until lost calls can be sent again. They end with the process."""

    _MOST = 16

    def __init__(self) -> None:
        self._chores: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._threads = 0
        self._lock = threading.Lock()

    def submit(self, chore: Callable[[], None]) -> None:
        self._chores.put(chore)
        with self._lock:
            if self._threads < self._MOST:
                self._threads += 1
                threading.Thread(target=self._run, name="torchremote-again", daemon=True).start()

    def _run(self) -> None:
        while True:
            self._chores.get()()


patient = _Patient()


def _try_again(
    once: Callable[..., Any],
    stub: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    began: float,
    failure: TorchRemoteError,
) -> Any:
    """Sends a call until it gets through. Raises its last failure when the stub's timeout has passed since `began`."""
    route = route_of(stub)
    assert route is not None
    for left in pauses(began + seconds_of(route.timeout)):
        try:
            stub.__dict__[METHODS].find_if_lost()
            return once(NamedStubMethods.with_timeout(stub, timeout_of(left)), *args, **kwargs)
        except (StaleStubError, WireError) as error:
            failure = error
            if not may_be_sent_again(failure):
                break
    raise failure


def may_be_sent_again(failure: TorchRemoteError) -> bool:
    """Says whether another message does no harm in this thread, after one that failed: see Note [Sent again]."""
    if isinstance(failure, NotInGroupError) or not _torch.is_recording_calls():
        return True
    failure.add_note(_RECORDED)
    return False


def pauses(until: float) -> Iterator[float]:
    """Pauses, each time for longer, and yields the seconds that are left until then. Ends when none are."""
    number = 0
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, pause_of(number)))
        number += 1
        if (left := until - time.monotonic()) > 0:
            yield left


def pause_of(number: int) -> float:
    """Returns the seconds of a pause. `number`: how many there were before."""
    return min(_FIRST_PAUSE * 2.0 ** min(number, 16), _LONGEST_PAUSE) * random.uniform(0.5, 1.0)


def _follows(stub: Any) -> bool:
    """Says whether a stub can find its module again."""
    return isinstance(stub.__dict__[METHODS], NamedStubMethods)


def seconds_of(timeout: float | None) -> float:
    """Returns the seconds that a call may take. `timeout`: that of its stub."""
    return (rpc.get_rpc_timeout() if timeout is None else timeout) or math.inf


def timeout_of(seconds: float) -> float:
    """Returns the timeout of a stub whose calls may take `seconds`, which may be infinite."""
    return 0.0 if seconds == math.inf else seconds
