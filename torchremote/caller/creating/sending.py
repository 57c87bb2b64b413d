"""Sends requests for modules to owners, cancels them, and words what goes wrong on the way."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import torch
import torch.distributed.rpc as rpc

from ... import _torch
from ..._torch import WorkerInfo
from ...errors import CreationError, NotInitializedError, TorchRemoteError, WireError
from ...jit import CompiledInterface
from ...link.failures import explain, missing_operator
from ...link.protocol import SPOKEN
from ...owner.create import CreateRequest, cancel_here, create_here
from ..messages.exchange import send
from ..messages.waiting import is_of_a_handler
from ..stubs.send_model import Sent


def send_requests(compiled: CompiledInterface, worker: WorkerInfo, requests: list[CreateRequest]) -> Any:
    """Asks a worker for modules in one message. Returns the Future of its answers."""
    return ask_owner(compiled, worker, create_here, [_fields(request) for request in requests])


def _fields(request: CreateRequest) -> dict[str, Any]:
    """Returns a request's fields, without those that have their default: see link/protocol.py, Note [Protocols]."""
    defaults = {field.name: field.default for field in dataclasses.fields(request)}
    fields = {name: value for name, value in vars(request).items() if value is not defaults[name]}
    return fields | {"make": Sent(request.make)} if isinstance(request.make, torch.jit.ScriptModule) else fields


def cancel_message(worker: WorkerInfo, ticket: str) -> None:
    """Has a worker remove what the message with `ticket` asks for, now or when it is done. Does not wait for that."""
    with suppress(RuntimeError), _torch.without_inference():  # it raises if the worker, and its modules, are lost
        rpc.rpc_async(worker, cancel_here, (ticket,))


@contextmanager
def cancelled_if_interrupted(worker: WorkerInfo, ticket: str) -> Iterator[None]:
    """Cancels a message when anything but an error of ours is raised, as by Ctrl-C: nobody has what comes of it."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, TorchRemoteError) or is_of_a_handler(error):
            cancel_message(worker, ticket)
        raise


def ask_owner(
    compiled: CompiledInterface,
    worker: WorkerInfo,
    function: Callable[..., Any],
    *args: Any,
    within: float | None = None,
) -> Any:
    """Sends a request of the control plane. Returns the Future of the answer."""

    def failing(error: Exception) -> TorchRemoteError:
        if isinstance(error, RuntimeError):
            failure = explain(error, compiled.interface.name, worker.name)
            if isinstance(failure, (WireError, NotInitializedError)):
                return failure
        return CreationError(f"{compiled.interface.name} on {worker.name}: cannot be sent: {with_remedy(error)}")

    # Pickling may raise anything.
    limit = {} if within is None else {"timeout": within}
    return send(rpc.rpc_async, (worker, function, (*SPOKEN, *args)), limit, failing, catches=(Exception,))


# In the messages of pickle and torch.
_NODE: Final = re.compile(r"\AError on Node \d+: ")
_IMPORTED: Final = re.compile(r"^\s+(\S.*)\(\d+\): <module>$", re.MULTILINE)  # in the stack of reading a request
_NOT_PICKLED: Final = re.compile(r"cannot pickle|can't pickle|PickleError|PicklingError", re.IGNORECASE)


def with_remedy(error: Exception) -> str:
    """Returns the message of an error of sending or receiving a request, with what to do in its first line."""
    text = str(error)
    remedy = ""
    if _NOT_PICKLED.search(text):
        remedy = "; send what can be pickled, and have module_cls make the rest on the owner"
    elif "maximum recursion depth exceeded" in text:
        remedy = "; a value in it nests too deeply: send a flatter one"
    elif missing := missing_operator(text):
        return f"{missing}\n\n{text}"
    # torch puts the worker into a line before the error of a request that could not be read.
    lines = [line for line in text.splitlines() if not re.search(r"\bOn WorkerInfo\(.*\):$", line)]
    said, more = (_NODE.sub("", lines[0]), "\n".join(lines[1:]).strip()) if lines else (type(error).__name__, "")
    if files := _IMPORTED.findall(text):  # the outermost is last
        said, remedy = f"the worker could not import {files[-1]}: {said}", "; mend it there"
    return f"{said}{remedy}\n\n{more}" if more else f"{said}{remedy}"
