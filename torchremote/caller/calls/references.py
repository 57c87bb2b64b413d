"""Makes `<m>_remote`: a call whose result stays where the module is. The caller gets an RRef."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from ... import _torch
from ...errors import UnsupportedTypeError
from ...jit.caller_units import can_stay, compile_references
from ...jit.lower import remote_name
from ...link.route import connected_route
from ..messages.exchange import send
from .described import describe
from .following import find_if_lost
from .single import Calls


def remote_call(calls: Calls) -> Callable[..., Any]:
    """Makes a stub's Python method `<m>_remote` for one method of its interface."""
    compiled, method, name = calls.compiled, calls.method, remote_name(calls.method)

    def refuse(self_: Any, /, *args: Any, **kwargs: Any) -> NoReturn:
        raise UnsupportedTypeError(
            f"{compiled.interface.name}.{name}: an RRef would refer to {method.returns}, which crosses as another "
            f"type; declare tensors, numbers, strings, and lists, dicts and tuples of them, or call {method.name}"
        )

    def call(self_: Any, /, *args: Any, **kwargs: Any) -> Any:
        calls.check_context()
        values = calls.pack(args, kwargs)
        find_if_lost(self_)
        route = connected_route(self_)
        sent = (self_, route.worker, route.handle, list(route.devices), *values)
        function = compile_references(compiled)[name]
        with _torch.as_plain_tensors():
            result = send(function, sent, {}, partial(calls.failure, self_), keeps_recorded=True)
        _torch.keep_in_forks(result)
        return result

    made = call if can_stay(method) else refuse
    describe(made, compiled, method, "_remote", calls.signature)
    return made
