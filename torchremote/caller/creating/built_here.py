"""Builds modules on the caller, for owners that cannot import their classes.

Note [Built here]
    A class is sent by its name, and the owner builds the module. It cannot import a class of a notebook's cell, of
    another process's `__main__`, or from inside a function. If reading the request fails for that reason, the caller
    builds the module, scripts or exports it, and sends that. The owner has not begun then, so nothing happens twice.
    Names come first: in a program that all workers run, `__main__` is the same on all of them. So the owner is asked
    for what is of `__main__`. It would find out by itself, but torch prints a traceback there.
"""

from __future__ import annotations

import logging
import re
import sys
from dataclasses import replace
from typing import Any, Final

import torch

from ..._torch import WorkerInfo
from ...errors import CreationError, TorchRemoteError
from ...jit import CompiledInterface
from ...jit.read.shown import repr_of
from ...jit.read.types import EnumType
from ...owner.create import CreateRequest, build_module
from ...owner.state_names import names_of
from ..messages.asking import ask

# In the messages of pickle and torch, for what is pickled by its name.
_BY_NAME: Final = re.compile(
    r"local object|attribute lookup|not the same object|it's not found as|Can't get (local )?attribute|"
    r"ModuleNotFoundError|No module named|UDFs are defined"
)
# Of those, what the worker says of a name in a file. Of a local class there is nothing to say.
_REASON: Final = re.compile(r"No module named '[^'\n]+'|Can't get attribute '[^'\n]+' on <module [^\n]+>")
_log = logging.getLogger("torchremote")


def is_unknown(request: CreateRequest, error: CreationError) -> bool:
    """Says whether a request failed because something in it is pickled by a name that a worker does not know."""
    return not isinstance(request.make, torch.jit.ScriptModule) and _BY_NAME.search(str(error)) is not None


_known: set[tuple[int, str]] = set()  # ids of workers, and names that their __main__ has


def is_only_here(worker: WorkerInfo, request: CreateRequest) -> bool:
    """Says whether a request has a class or function of `__main__` that the worker's `__main__` does not have."""
    make = request.make
    if isinstance(make, torch.jit.ScriptModule) or getattr(make, "__module__", None) != "__main__":
        return False
    name = str(getattr(make, "__qualname__", make))
    if (worker.id, name) in _known:
        return False
    if not ask(worker.name, f"{request.interface} on {worker.name}", _main_has, name, timeout=None):
        return True
    _known.add((worker.id, name))
    return False


def _main_has(name: str) -> bool:
    """Says whether this process's `__main__` has a class or function of that name."""
    found: Any = sys.modules["__main__"]
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is not None


_said: set[str] = set()


def built_here(
    compiled: CompiledInterface, worker: WorkerInfo, request: CreateRequest, unknown: CreationError | None
) -> CreateRequest:
    """Builds a module here, scripts or exports it, and returns the request to host it. Says so once for a class.

    Args:
        unknown: what came of sending the class by its name. None if it was not sent.
    """
    what = getattr(request.make, "__qualname__", repr_of(request.make))
    where = f"{compiled.interface.name} on {worker.name}"
    reason = _REASON.search(str(unknown))
    why = f" ({reason[0]})" if reason else ""
    enums = [kind.name for kind in compiled.interface.named_types if isinstance(kind, EnumType)]
    if enums:
        raise CreationError(
            f"{where}: {worker.name} cannot import {what}{why}, and torch sends no module with an enum, as {enums[0]}; "
            f"define the module's class and its enums in a file that {worker.name} can import"
        )
    try:
        scripted = build_module(compiled.contract, request, torch.device("cpu"))
    except TorchRemoteError as error:
        raise type(error)(
            f"{where}: built here, since {worker.name} cannot import {what} or one of its arguments{why}: {error}"
        ) from None
    if what not in _said:
        _said.add(what)
        how = "scripted" if request.examples is None else "exported"
        _log.warning("%s: the worker cannot import %s%s, so it is built and %s here, and sent", where, what, why, how)
    return replace(request, make=scripted, args=(), kwargs={}, examples=None, names=names_of(scripted))
