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
    resume: Resume,
    restore: Callable[[Any], Any] | None,
    failure: Callable[[Any, Exception], TorchRemoteError],
    precise: Callable[[Exception, tuple[Any, ...], dict[str, Any]], Exception],
) -> Callable[..., Any]:
    """Makes a method that does what `otherwise` does, and crosses to C++ once where it can.

    Args:
        name: of the scripted method.
        exact: combinations of classes of arguments that are exactly of the declared types.
        resume: goes on after a first message that failed.
        restore: changes a result that was left to Python into what the method returns.
        failure, precise: make the errors, as in single.py.
    """
    begin_call, left_behind, in_dual_level = native.begin_call, native.left_behind, _torch.in_dual_level

    def go_on(stub: Any, error: BaseException, args: tuple[Any, ...]) -> Any:
        """Waits on for a result that was left to Python. Raises if it, or the call itself, is an error."""
        answer = left_behind()
        check_not_forked()
        failing: Failing = partial(failure, stub)
        if answer is not None:
            return settle(answer, restore, failing)
        if isinstance(error, FAILURES):
            error = failing(error)
        if isinstance(error, (ArgumentError, ValueError)):
            error = precise(error, args, {})
        raise error from None

    def call(self_: Any, /, *args: Any, **kwargs: Any) -> Any:
        if not kwargs and (*map(type, args),) in exact and not in_dual_level():
            method = self_.__dict__[METHODS].get(name)  # None: the stub has to find its module
            if method is not None:
                began = monotonic()
                try:
                    try:
                        if begin_call():
                            return method(*args)
                    except BaseException as error:
                        return go_on(self_, error, args)
                except (StaleStubError, WireError) as error:
                    return resume(self_, args, kwargs, began, error)
        return otherwise(self_, *args, **kwargs)

    return call
