"""Makes the Python methods of replicas: they choose one for each message, and another if that one is lost.

The messages are those of stubs. See team.py, Note [Replicas].
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import torch

from ... import _torch
from ...errors import NotInGroupError, StaleStubError, TorchRemoteError, WireError
from ...jit import CompiledInterface
from ...jit.lower.plan import is_called_packed
from ...jit.read.model import Method
from ...link.failures import FAILURES
from ...link.timeouts import seconds_of, timeout_of
from ..calls.again import may_be_sent_again, wait_for_streams
from ..calls.batches import Batches, when_each
from ..calls.described import describe
from ..calls.references import remote_call
from ..calls.single import Calls, failure_of
from ..messages.answer import Answer
from ..messages.failures_later import Failing, Failure, fail_later, new_answer
from ..messages.pauses import pause_of
from ..messages.settling import Settle, waiting, when_all
from ..messages.steps import Steps, run_here, run_later
from ..messages.waiting import unless_of_a_handler
from ..stubs.stub import with_timeout
from .replica import Taken
from .team import TEAM, Team, team_of

Begun = tuple[Any, Callable[[Any], Any] | None, Failing]
"""A call that was sent: the Future of its answer, how that is unpacked, and what makes its errors of torch's."""
Chosen = Taken | NotInGroupError
"""A replica, or why there is none, for a call that waits for one."""
Give = Callable[[Any], None]
"""Takes a result, or a `Failure` in its place."""

_ANOTHER_MAY_RUN: Final = (StaleStubError, WireError)
"""Errors of a call that another replica may still run. All others are the call's own."""


def replica_calls(compiled: CompiledInterface, method: Method) -> Iterator[Callable[..., Any]]:
    """Makes the five Python methods of replicas for one method of their interface."""
    calls = Calls(compiled, method)
    batches = Batches(calls)
    make = calls.packed if is_called_packed(method) else calls.plain
    once, begin = calls.with_native(make(waiting)), make(_begun)
    single = _Messages(begin, calls.where, method.idempotent)
    parts = _Messages(batches.begin, batches.where, method.idempotent)

    def now(self_: Any, /, *args: Any, **kwargs: Any) -> Any:
        team, began = self_.__dict__[TEAM], time.monotonic()  # with a frame less than by `team_of`
        taken = single.take(team, 1)
        if isinstance(taken, NotInGroupError):
            return run_here(single.tries(team, args, kwargs, 1, began, taken, []))
        try:
            return once(taken.stub, *args, **kwargs)
        except unless_of_a_handler(*_ANOTHER_MAY_RUN) as error:
            failure = single.ended(team, taken, error)
        finally:
            taken.give_back()
        return run_here(single.tries(team, args, kwargs, 1, began, failure, [taken.stub]))

    def later(self_: Any, /, *args: Any, **kwargs: Any) -> Any:
        team: Team = self_.__dict__[TEAM]
        answer = new_answer(team.devices)
        single.later(team, single.take(team, 1), args, kwargs, answer.set_result)
        return answer

    def many(self_: Any, /, calls: Iterable[Any], *, return_exceptions: bool = False) -> Any:
        return many_later(self_, calls, return_exceptions=return_exceptions).wait()

    def many_later(self_: Any, /, calls: Iterable[Any], *, return_exceptions: bool = False) -> Any:
        if return_exceptions:
            return when_each(batches.send_each(self_, calls, later), team_of(self_).devices)
        team, packed = team_of(self_), batches.packed(calls)
        shares = list(_shares(packed, max(1, team.living())))
        answers: list[Answer[Any]] = [Answer(team.devices) for _ in shares]
        parts.spread(team, shares, answers)
        return when_all(answers, lambda: _joined(answers), team.devices)

    once_remote = remote_call(calls)

    def remote(self_: Any, /, *args: Any, **kwargs: Any) -> Any:
        return _start(team_of(self_), once_remote, args, kwargs)

    every = {"": now, "_async": later, "_many": many, "_many_async": many_later, "_remote": remote}
    for ending, call in every.items():
        describe(call, compiled, method, ending, calls.signature)
        yield call


def _begun(unpack: Callable[[Any], Any] | None) -> Settle:
    return lambda answer, failing, devices: (answer, unpack, failing)


def _shares(calls: list[Any], count: int) -> Iterator[tuple[int, list[Any]]]:
    """Splits calls into at most `count` parts of about the same length. Yields each with the position of its first."""
    least, more = divmod(len(calls), count)
    first = 0
    for number in range(min(count, len(calls)) or 1):
        last = first + least + (number < more)
        yield first, calls[first:last]
        first = last


def _start(team: Team, start: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Has a replica start a call whose result stays there; another one, if nothing can be sent to the first."""
    for left in range(len(team.where) - 1, -1, -1):
        taken = team.take()
        try:
            return start(taken.stub, *args, **kwargs)
        except unless_of_a_handler(NotInGroupError) as error:
            team.leave_out(taken.replica, taken.stub, error)
            if not left:
                raise
        finally:
            taken.give_back()


def _joined(parts: list[Answer[Any]]) -> Any:
    """Puts the results of the parts of a batch together. Returns the first `Failure`, in order, if there is one."""
    values = [part.wait() for part in parts]
    failure = next((value for value in values if isinstance(value, Failure)), None)
    return failure or list(itertools.chain.from_iterable(values))


class _Messages:
    """Sends messages of one method to replicas."""

    def __init__(self, begin: Callable[..., Begun], where: str, idempotent: bool) -> None:
        self._begin = begin
        self._where = where
        self._idempotent = idempotent

    def spread(self, team: Team, shares: list[tuple[int, list[Any]]], answers: list[Answer[Any]]) -> None:
        """Makes parts of a batch, as `_shares` yields them. Each has a Future for its result, or for its `Failure`."""
        # All are taken before the first is sent: its replica may be done before the next one is taken.
        waiting: deque[Chosen] = deque()
        try:
            for _, share in shares:
                waiting.append(self.take(team, len(share)))
            for (first, share), answer in zip(shares, answers, strict=True):
                self.later(team, waiting.popleft(), (share, first), {}, answer.set_result, len(share))
        except BaseException:
            for chosen in waiting:
                if isinstance(chosen, Taken):
                    chosen.give_back()
            raise

    def take(self, team: Team, calls: int) -> Chosen:
        """Takes a replica for a call, or for a batch of so many.

        Raises:
            NotInGroupError: all are left out, and the method is not idempotent. Nothing was sent.
        """
        try:
            return team.take(calls)
        except unless_of_a_handler(NotInGroupError) as error:
            if not self._idempotent:
                raise
            return error

    def later(
        self,
        team: Team,
        chosen: Chosen,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        give: Give,
        calls: int = 1,
    ) -> None:
        """Makes a call, or a batch of so many, and has `give` take its result when it is there."""
        began, grad_mode = time.monotonic(), torch.is_grad_enabled()
        is_recorded = _torch.is_recording_calls()  # see calls/again.py, Note [Sent again]

        def failed(failure: TorchRemoteError, tried: list[Any]) -> None:
            if not is_recorded and self._may_go_on(failure):
                run_later(self.tries(team, args, kwargs, calls, began, failure, tried), give, grad_mode)
            else:
                give(Failure.of(failure))

        def settled(done: torch.futures.Future[Any]) -> None:
            taken.give_back()
            try:
                try:
                    value = done.value()
                    result = value if unpack is None else unpack(value)
                except unless_of_a_handler(*FAILURES) as error:
                    failure = self.ended(team, taken, error)
                    if isinstance(failure, _ANOTHER_MAY_RUN):
                        failed(failure, [taken.stub])
                    else:
                        fail_later(failing, error, give)
                    return
            except Exception as error:  # of a handler, or a bug; without a result, the waiter would wait for ever
                result = Failure.of(error)
            give(result)

        if isinstance(chosen, NotInGroupError):
            failed(chosen, [])
            return
        taken = chosen
        try:
            answer, unpack, failing = self._begin(taken.stub, *args, **kwargs)
        except unless_of_a_handler(*_ANOTHER_MAY_RUN) as error:
            failed(self.ended(team, taken, error), [taken.stub])
        except BaseException:
            taken.give_back()
            raise
        else:
            _torch.when_done(answer, settled)

    def ended(self, team: Team, taken: Taken, error: Exception) -> TorchRemoteError:
        """Ends an attempt that failed: gives its replica back, and leaves that out if it is lost. Returns our error.

        Args:
            error: one of torch's, or one of `_ANOTHER_MAY_RUN` from the sending.
        """
        taken.give_back()
        error = error.with_traceback(None)  # see messages/failures_later.py, Note [Failures in Futures]
        failure = error if isinstance(error, _ANOTHER_MAY_RUN) else failure_of(taken.stub, error, self._where)
        if isinstance(failure, _ANOTHER_MAY_RUN):
            team.leave_out(taken.replica, taken.stub, failure)
        return failure

    def _may_go_on(self, failure: TorchRemoteError) -> bool:
        """Says whether another replica may run the call that failed."""
        has_not_run = isinstance(failure, (StaleStubError, NotInGroupError)) and not failure._some_may_have_run
        return (self._idempotent or has_not_run) and may_be_sent_again(failure)

    def tries(
        self,
        team: Team,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        calls: int,
        began: float,
        failure: TorchRemoteError,
        tried: list[Any],
    ) -> Steps[Any]:
        """Makes a call that failed before, until it gets through, must not be made again, or its time is over.

        Args:
            began: when it was made first.
            tried: the stubs of replicas that did not run it. A replica that came back since has a new one. A call that
                is idempotent is made as often as time allows.
        """
        until, pauses = began + seconds_of(team.timeout, f"{team.title}: "), 0
        while self._may_go_on(failure):
            left = until - time.monotonic()
            try:
                taken = team.take(calls)
            except unless_of_a_handler(NotInGroupError) as error:
                failure = error.with_traceback(None)  # which refers to this frame
                if not self._idempotent or left <= 0:
                    break
                yield min(left, pause_of(pauses))
                pauses += 1
                continue
            try:
                if left <= 0 or (not self._idempotent and any(taken.stub is one for one in tried)):
                    break
                tried.append(taken.stub)
                wait_for_streams(team.devices)
                brief = with_timeout(taken.stub, timeout_of(left))
                answer, unpack, failing = self._begin(brief, *args, **kwargs)
                try:
                    value = yield answer
                except FAILURES as error:
                    failure = self.ended(team, taken, error)
                    if not isinstance(failure, _ANOTHER_MAY_RUN):
                        known: Answer[Failure] = Answer()
                        fail_later(failing, error, known.set_result)
                        return (yield known)
                else:
                    return value if unpack is None else unpack(value)
            except unless_of_a_handler(*_ANOTHER_MAY_RUN) as error:
                failure = self.ended(team, taken, error)
            finally:
                taken.give_back()
        raise failure
