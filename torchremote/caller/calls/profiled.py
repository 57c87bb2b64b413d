"""Shows the calls of stubs to torch's profilers, as ranges with interface, method and worker."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ... import _torch
from ...jit import CompiledInterface
from ...jit.read.model import Method
from ...link.route import route_of


def workers_of_stub(stub: Any) -> str:
    """Says where a stub's calls go, for the name of a range: nowhere, while it is disconnected."""
    route = route_of(stub)
    return "" if route is None else f" on {route.worker}"


def profiled(
    call: Callable[..., Any],
    compiled: CompiledInterface,
    method: Method,
    workers_of: Callable[[Any], str] = workers_of_stub,
) -> Callable[..., Any]:
    """Returns a method of stubs that does what `call` does. While a profiler records, it opens a range.

    Calls of `<m>` and `<m>_async` go through it only then: see single.py.

    The range begins before arguments are checked. It ends when the caller has the result; for what returns a Future,
    when that is done; and for `<m>_remote`, when the call is sent.

    Args:
        method: the method of the interface for which `call` is.
        workers_of: says where the calls of an object go, as the end of the range's name.
    """
    name: str = call.__name__
    returns_future = name in (f"{method.name}_async", f"{method.name}_many_async")
    open_range = _torch.call_in_range_until_done if returns_future else _torch.call_in_range
    is_profiling = _torch.is_profiling

    @functools.wraps(call)
    def ranged(*args: Any, **kwargs: Any) -> Any:
        if not is_profiling():
            return call(*args, **kwargs)
        shown = f"{compiled.interface.name}.{name}{workers_of(args[0])}"
        return open_range(shown, functools.partial(call, *args, **kwargs))

    return ranged
