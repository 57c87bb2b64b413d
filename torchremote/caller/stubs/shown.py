"""Shows a stub: in one line, and as a small table in a notebook. It asks the owner whether the module is there."""

from __future__ import annotations

import html
import time
from typing import Final

from ... import _torch
from ...errors import TorchRemoteError
from ...jit import CompiledInterface
from ...link.route import Route
from ...owner import modules
from ..messages.asking import ask
from ..messages.waiting import unless_of_a_handler

_PATIENCE: Final = 1.0
"""Seconds in which an owner has to answer."""
_SILENT_FOR: Final = 5.0
"""Seconds for which an owner that did not answer is not asked again, so that a model with many stubs is shown soon."""

_silent: dict[str, float] = {}  # by worker: when it may be asked again


def line(compiled: CompiledInterface, route: Route) -> str:
    """Says in one line what a stub stands for: interface, name, worker, device, and whether it answers."""
    name = "" if route.name is None else f"{route.name!r} "
    return f"{compiled.interface.name} {name}on {route.worker}/{route.device}, {state(route)}"


def table(compiled: CompiledInterface, route: Route) -> str:
    """Writes the same as a table in HTML, with the methods."""
    methods = "<br>".join(html.escape(str(method)) for method in compiled.interface.methods)
    rows = {
        "interface": html.escape(compiled.interface.name),
        "name": html.escape(route.name or "(none)"),
        "worker": html.escape(route.worker),
        "device": html.escape(route.device),
        "state": state(route),
        "methods": f"<code>{methods}</code>",
    }
    cells = (
        f'<tr><th style="text-align:left">{title}</th><td style="text-align:left">{cell}</td></tr>'
        for title, cell in rows.items()
    )
    return f"<table>{''.join(cells)}</table>"


def state(route: Route) -> str:
    """Asks whether the module of a stub is there. Waits a second at most."""
    if not _torch.rpc_running():
        return "RPC is not running"
    if _silent.get(route.worker, 0.0) > time.monotonic():
        return "does not answer"
    try:
        hosted = ask(route.worker, f"repr on {route.worker}", modules.is_hosted_here, route.handle, timeout=_PATIENCE)
    except unless_of_a_handler(TorchRemoteError):
        _silent[route.worker] = time.monotonic() + _SILENT_FOR
        return "does not answer"
    _silent.pop(route.worker, None)
    return "answers" if hosted else "withdrawn"
