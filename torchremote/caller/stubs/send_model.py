"""Sends scripted models with stubs inside, as arguments and results of RPC.

A model crosses as the archive that torch.jit.save writes, together with its stubs' routes. A stub alone crosses as its
route: see send_stub.py. A model without stubs is torch's affair, and so are the errors of sending one.
"""

from __future__ import annotations

import io
import sys
from typing import Any, Final

import torch

from ... import _torch
from ...errors import NotSavableError
from ...jit import Interface, compile_interface
from ...link.failures import message_of
from ...link.route import address_of, clear_route, route_of
from ...link.stubs import compiled_at, has_stubs, is_stub, stubs_in
from .send_stub import SentRoute
from .stub import attach

Path = tuple[str, ...]
_TORCHS: Final = "torch.distributed.nn.api.remote_module"


def _reduce_for_rpc(model: torch.jit.ScriptModule) -> tuple[Any, ...]:
    """Takes a model apart for RPC's pickler."""
    return _reduce(model) if has_stubs(model) else _reduce_as_torch(model)


class Sent:
    """Stands for a scripted model on its way to a worker that has torchremote, and arrives as the model itself.

    torch's own way warns that it is deprecated, at both ends.
    """

    def __init__(self, model: torch.jit.ScriptModule) -> None:
        self._model = model

    def __reduce__(self) -> tuple[Any, ...]:
        return _reduce(self._model)


def _reduce(model: torch.jit.ScriptModule) -> tuple[Any, ...]:
    """Takes a model apart, with the stubs in it."""
    for parent, key, _ in stubs_in(model):
        if parent is not None and key is None:
            raise NotSavableError(
                f"{type(model).__name__}: a model with stubs in a list or dict is not sent; give each stub an "
                "attribute of its own, or save the model, and load and reconnect it there"
            )
    routes: dict[Path, tuple[Interface, SentRoute]] = {}
    try:
        content = _without_routes(model, (), routes).save_to_buffer()
    except torch.jit.Error as error:  # raised by a stub; errors of the model's own modules pass
        raise NotSavableError(message_of(error).removeprefix("torchremote: ")) from error
    return _rebuild, (content, routes)


def _reduce_as_torch(model: torch.jit.ScriptModule) -> tuple[Any, ...]:
    """Takes a model without stubs apart, with torch's own function if there is one: it refuses some, and is read by
    workers that have no torchremote."""
    if type(model) is torch.jit.RecursiveScriptModule:
        # torch.distributed.nn would have registered this, had torchremote not come before it.
        reduce = getattr(sys.modules.get(_TORCHS), "_recursive_script_module_reducer", None)
        if reduce is not None:
            reduced: tuple[Any, ...] = reduce(model)
            return reduced
    return _rebuild, (model.save_to_buffer(), {})


def _without_routes(
    module: torch.jit.ScriptModule, path: Path, routes: dict[Path, tuple[Interface, SentRoute]]
) -> torch.jit.ScriptModule:
    """Returns `module` itself if no stub in it is connected, or else a copy with disconnected stubs. Adds to `routes`.

    Others may be using the original. So the stubs and the modules around them are copied, and all else is shared.
    """
    if is_stub(module):
        route = route_of(module)
        if route is None:
            return module
        compiled = compiled_at(address_of(module))
        routes[path] = compiled.interface, SentRoute.of(route)
        copied = _torch.copy_module(module)
        clear_route(copied, compiled, route)
        return copied
    changed = {}
    for name, child in module._modules.items():
        if isinstance(child, torch.jit.ScriptModule):
            replacement = _without_routes(child, (*path, name), routes)
            if replacement is not child:
                changed[name] = replacement
    if not changed:
        return module
    copied = _torch.copy_module(module)
    for name, child in changed.items():
        _torch.set_child(copied, name, child)
    return copied


def _rebuild(content: bytes, routes: dict[Path, tuple[Interface, SentRoute]]) -> torch.jit.ScriptModule:
    """Makes the model again on the worker that receives it, and connects its stubs."""
    model: torch.jit.ScriptModule = _torch.load_scripted(io.BytesIO(content))
    for path, (interface, route) in routes.items():
        parent: torch.nn.Module | None = None
        stub: Any = model
        for name in path:
            parent, stub = stub, stub._modules[name]
        connected: torch.jit.ScriptModule = attach(stub, compile_interface(interface), route.from_here())
        if parent is None:
            return connected
        _torch.replace_child(parent, path[-1], connected)
    return model


# torch itself sends a scripted module only as a call's whole result, and, once torch.distributed.nn is imported, a
# RecursiveScriptModule anywhere.
for _class in (torch.jit.RecursiveScriptModule, torch.jit.TracedModule, torch.jit.TopLevelTracedModule):
    _torch.send_as(_class, _reduce_for_rpc)
