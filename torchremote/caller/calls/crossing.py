"""Makes calls that wait for their results in TorchScript, with the native part: they cross to C++ once.

Other calls cross three times: to send, to wait, and to take the result. In between, Python runs, on caches that torch's
threads have filled with other things. Most calls need none of that: their arguments are exact, nothing is unusual on
their thread, and they succeed soon. All others take the other way, or go on on it.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from functools import partial
from time import monotonic
from typing import Any

from ... import _torch, native
from ...errors import ArgumentError, StaleStubError, TorchRemoteError, WireError
from ...link.failures import FAILURES, check_not_forked
from ..messages.exchange import Failing, settle
from .again import Resume
from .methods import METHODS


def crossing_once(
    name: str,
    exact: Container[tuple[type, ...]],
    otherwise: Callable[..., Any],
    resume: Resume | None,
    restore: Callable[[Any], Any] | None,
    failure: Callable[[Any, Exception], TorchRemoteError],
    precise: Callable[[Exception, tuple[Any, ...], dict[str, Any]], Exception],
) -> Callable[..., Any]:
    """Makes a method that does what `otherwise` does, and crosses to C++ once where it can.

    Args:
        name: of the scripted method.
        exact: combinations of classes of arguments that are exactly of the declared types.
        resume: how a call goes on whose first message failed. None: not at all.
        restore: changes a result that was left to Python into what the method returns.
        failure, precise: make the errors, as in single.py.
    """
    begin_call, left_behind, in_dual_level = native.begin_call, native.left_behind, _torch.in_dual_level

    def finish(stub: Any, error: Exception, args: tuple[Any, ...]) -> Any:
        """Waits on for a result that was left to Python. Raises if it, or the call itself, is an error."""
        answer = left_behind()
        check_not_forked()
        if answer is not None:
            failing: Failing = partial(failure, stub)
            return settle(answer, restore, failing)
        raise explained(stub, error, args) from None

    def explained(stub: Any, error: Exception, args: tuple[Any, ...]) -> Exception:
        ours = failure(stub, error) if isinstance(error, FAILURES) else error
        return precise(ours, args, {}) if isinstance(ours, (ArgumentError, ValueError)) else ours

    def call(self_: Any, /, *args: Any, **kwargs: Any) -> Any:
        if kwargs or (*map(type, args),) not in exact or in_dual_level():
            return otherwise(self_, *args, **kwargs)
        method = self_.__dict__[METHODS].get(name)  # None: the stub has to find its module
        if method is None:
            return otherwise(self_, *args)
        began = monotonic()
        try:
            try:
                if begin_call():
                    return method(*args)
            except (*FAILURES, ValueError) as error:
                return finish(self_, error, args)
            except BaseException:  # as Ctrl-C, before anything was sent
                left_behind()
                raise
        except (StaleStubError, WireError) as error:
            if resume is None or not resume.is_allowed(self_, error):
                raise
            failure = error.with_traceback(None)
            failure.__context__ = None  # both refer to this frame
        else:
            return otherwise(self_, *args)
        return resume.go_on(self_, args, kwargs, began, failure)

    return call
