"""Makes calls that wait for their results, with the native part, in less time where nothing is unusual.

Python that runs between two calls of C++ runs on caches that torch's threads have filled with other things. Most calls
need little of it: their arguments are exact, nothing is unusual on their thread, and the answer comes soon. C++ sends
them and waits, for `ONE_WAIT` at most. If the answer is later, `settle` waits on, as in any call; all other calls take
the other way from the start.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Container
from functools import partial
from time import monotonic
from typing import Any

from ... import _torch, native
from ...errors import ArgumentError, StaleStubError, TorchRemoteError, WireError
from ...link.failures import FAILURES, check_not_forked
from ..messages.exchange import settle
from ..messages.waiting import ONE_WAIT, is_of_a_handler, unless_of_a_handler
from .again import Resume
from .following import METHODS


def native_call(
    name: str,
    exact: Container[tuple[type, ...]],
    otherwise: Callable[..., Any],
    resume: Resume | None,
    restore: Callable[[Any], Any] | None,
    failure: Callable[[Any, Exception], TorchRemoteError],
    precise: Callable[[Exception, tuple[Any, ...], dict[str, Any]], Exception],
) -> Callable[..., Any]:
    """Makes a method that does what `otherwise` does, in less time where it can.

    Args:
        name: of the scripted method that sends.
        exact: combinations of classes of arguments that are exactly of the declared types.
        resume: how a call goes on whose first message failed. None: not at all.
        restore: changes the result into what the method returns.
        failure, precise: make the errors, as in single.py.
    """
    one_wait = ctypes.c_double(ONE_WAIT)
    wait_in_next_call, do_not_wait = native.wait_in_next_call, native.do_not_wait
    in_dual_level = _torch.in_dual_level
    is_timed = resume is not None and resume.is_timed

    def explained(stub: Any, error: Exception, args: tuple[Any, ...]) -> Exception:
        check_not_forked()
        ours = failure(stub, error) if isinstance(error, FAILURES) else error
        return precise(ours, args, {}) if isinstance(ours, (ArgumentError, ValueError)) else ours

    def call(self_: Any, /, *args: Any, **kwargs: Any) -> Any:
        if kwargs or (*map(type, args),) not in exact or in_dual_level():
            return otherwise(self_, *args, **kwargs)
        method = self_.__dict__[METHODS].get(name)
        if method is None:  # the stub has to find its module
            return otherwise(self_, *args)
        began = monotonic() if is_timed else 0.0
        try:
            try:
                answer = method(*args) if wait_in_next_call(one_wait) else None
            except BaseException as error:
                do_not_wait()
                if is_of_a_handler(error) or not isinstance(error, (*FAILURES, ValueError)):
                    raise
                raise explained(self_, error, args) from None
            if answer is not None:
                return settle(answer, restore, partial(failure, self_))
        except unless_of_a_handler(StaleStubError, WireError) as error:
            if resume is None or not resume.is_allowed(self_, error):
                raise
            failed = error.with_traceback(None)
            failed.__context__ = None  # both refer to this frame
        else:
            return otherwise(self_, *args)
        return resume.go_on(self_, args, kwargs, began, failed)

    return call
