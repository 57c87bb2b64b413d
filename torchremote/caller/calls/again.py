"""Sends calls again, from Python: those that did not run, and lost ones of methods that are declared idempotent.

Note [Sent again]
    A call that the owner refused because it does not have the module any more has not run. It is sent again, once, when
    the module was found: see following.py, Note [Stubs that follow]. A call that got lost may have run. It is sent
    again only if its method is declared `@idempotent`, with growing pauses, until the stub's timeout has passed. The
    last try has what is left of that timeout. So has the first, if the module has to be found before; a call with
    `_async` finds it without keeping its thread.

    In a context of distributed autograd, torch records every message when it is sent, and `backward` waits for the
    gradients of each. Those of a call that was lost never come. So there a call is sent again only if nothing was sent
    before. A call with `_async` would be sent again by a thread that is not in the context: there it never is.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import torch

from ... import _torch
from ...errors import CallTimeoutError, NotInGroupError, StaleStubError, TorchRemoteError, WireError
from ...link.route import connected_route
from ...link.timeouts import seconds_of, timeout_of
from ..messages.answer import Answer
from ..messages.failures_later import Failure, new_answer
from ..messages.pauses import pause_of
from ..messages.steps import Steps, run_here, run_later
from ..messages.waiting import is_of_a_handler, unless_of_a_handler
from .following import DEVICES, METHODS, NamedStubMethods, note_failure

_is_profiling = _torch.is_profiling

_RECORDED: Final = "not sent again, because dist_autograd has recorded the call; begin the step again, in a new context"


class Resume(NamedTuple):
    """Says whether a call goes on after its first message failed, and how."""

    is_allowed: Callable[[Any, TorchRemoteError], bool]
    """Says whether a stub's call may be sent again after a failure."""
    go_on: Callable[[Any, tuple[Any, ...], dict[str, Any], float, TorchRemoteError | None], Any]
    """Takes the stub, the arguments, when the call began, and the failure. Returns the result."""
    is_timed: bool
    """Whether the time of the call is limited as a whole. Then `go_on` needs to know when the call began, and makes a
    call whose module has to be found before: with None, as there was no failure."""


def once_more(once: Callable[..., Any]) -> Resume:
    """Has a call be sent again, once, that has not run."""

    def is_allowed(stub: Any, failure: TorchRemoteError) -> bool:
        return isinstance(failure, StaleStubError) and _follows(stub) and may_be_sent_again(failure)

    def go_on(stub: Any, args: Any, kwargs: Any, began: float, failure: TorchRemoteError | None) -> Any:
        return once(stub, *args, **kwargs)

    return Resume(is_allowed, go_on, is_timed=False)


def until_timeout(once_async: Callable[..., Any]) -> Resume:
    """Has a call be sent again until its stub's timeout has passed.

    Args:
        once_async: makes the call, and returns a Future of its result.
    """

    def is_allowed(stub: Any, failure: TorchRemoteError) -> bool:
        return _follows(stub) and may_be_sent_again(failure)

    def go_on(stub: Any, args: Any, kwargs: Any, began: float, failure: TorchRemoteError | None) -> Any:
        return run_here(_tries(once_async, stub, args, kwargs, began, failure))

    return Resume(is_allowed, go_on, is_timed=True)


def sent_again(
    once: Callable[..., Any], resume: Resume, in_range: Callable[..., Any] | None = None
) -> Callable[..., Any]:
    """Returns a method that does what `once` does, and goes on as `resume` says if its message fails.

    Args:
        in_range: what it calls instead while a profiler records.
    """

    is_timed = resume.is_timed

    @functools.wraps(once)
    def call(self_: Any, /, *args: Any, **kwargs: Any) -> Any:
        if in_range is not None and _is_profiling():
            return in_range(self_, *args, **kwargs)
        began = time.monotonic() if is_timed else 0.0
        if is_timed and _is_lost(self_):
            return resume.go_on(self_, args, kwargs, began, None)
        try:
            return once(self_, *args, **kwargs)
        except unless_of_a_handler(StaleStubError, WireError) as error:
            if not resume.is_allowed(self_, error):
                raise
            failure = error.with_traceback(None)  # which refers to this frame
        return resume.go_on(self_, args, kwargs, began, failure)

    return call


def sent_until_timeout_later(
    once_async: Callable[..., Any], in_range: Callable[..., Any] | None = None
) -> Callable[..., Answer[Any]]:
    """Returns a method that does what `once_async` does, and sends a lost call again until the stub's timeout ends.

    Args:
        in_range: what it calls instead while a profiler records.
    """

    @functools.wraps(once_async)
    def call(self_: Any, /, *args: Any, **kwargs: Any) -> Any:
        if in_range is not None and _is_profiling():
            return in_range(self_, *args, **kwargs)
        if not _follows(self_) or _torch.is_recording_calls():
            return once_async(self_, *args, **kwargs)
        began, grad_mode = time.monotonic(), torch.is_grad_enabled()
        result = new_answer(self_.__dict__[DEVICES])

        def try_again(failure: TorchRemoteError | None) -> None:
            run_later(_tries(once_async, self_, args, kwargs, began, failure), result.set_result, grad_mode)

        def settled(done: torch.futures.Future[Any]) -> None:
            try:
                value = done.value()
            except (StaleStubError, WireError) as error:
                if is_of_a_handler(error):  # in the caller's own frame
                    result.set_result(Failure.of(error))
                    raise
                try_again(error.with_traceback(None))
            except Exception as error:
                result.set_result(Failure.of(error))
            except BaseException as error:  # as Ctrl-C, in the caller's own frame
                result.set_result(Failure(type(error)))
                raise
            else:
                result.set_result(value)

        if _is_lost(self_):
            try_again(None)
            return result
        try:
            answer = once_async(self_, *args, **kwargs)
        except unless_of_a_handler(StaleStubError, WireError) as error:
            try_again(error.with_traceback(None))
        else:
            _torch.when_done(answer, settled)
        return result

    return call


def _tries(
    once_async: Callable[..., Any],
    stub: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    began: float,
    failure: TorchRemoteError | None,
) -> Steps[Any]:
    """Sends a call until it gets through: see messages/steps.py, Note [Steps].

    Raises its last failure when the stub's timeout has passed since `began`.

    Args:
        failure: that of the first try. None: there was none.
    """
    route = connected_route(stub)
    until = began + seconds_of(route.timeout, f"{stub.__dict__[METHODS].where}: ")
    for number in itertools.count():
        if (left := until - time.monotonic()) <= 0:
            break
        if failure is not None:
            yield min(left, pause_of(number))
        try:
            try:
                yield from stub.__dict__[METHODS].finding(until, exactly=True)
            except unless_of_a_handler(CallTimeoutError) as error:
                failure = failure or error.with_traceback(None)  # one of a message that was sent says more
                continue
            if (left := until - time.monotonic()) <= 0:
                break
            route = connected_route(stub)
            wait_for_streams(stub.__dict__[DEVICES])
            return (yield once_async(NamedStubMethods.with_timeout(stub, timeout_of(left)), *args, **kwargs))
        except unless_of_a_handler(StaleStubError, WireError) as error:
            failure = error.with_traceback(None)  # which refers to this frame, and that to the stub
            note_failure(stub, route.handle, failure)  # the other stub has noted it for itself
            if not may_be_sent_again(failure):
                break
    raise failure or stub.__dict__[METHODS].found_too_late()


def may_be_sent_again(failure: TorchRemoteError) -> bool:
    """Says whether another message does no harm in this thread, after one that failed: see Note [Sent again]."""
    if isinstance(failure, NotInGroupError) or not _torch.is_recording_calls():
        return True
    failure.add_note(_RECORDED)
    return False


def wait_for_streams(devices: Iterable[torch.device]) -> None:
    """Waits for all work on accelerators, in whose streams the arguments of a call may still be computed.

    torch orders a message after the streams of the thread that sends it. Another thread sends it again.
    """
    for device in devices:
        torch.cuda.synchronize(device)  # torch has device maps for CUDA alone


def _is_lost(stub: Any) -> bool:
    """Says whether a stub has to find its module before the next call."""
    methods = stub.__dict__[METHODS]
    return not methods and isinstance(methods, NamedStubMethods)


def _follows(stub: Any) -> bool:
    """Says whether a stub can find its module again."""
    return isinstance(stub.__dict__[METHODS], NamedStubMethods)
