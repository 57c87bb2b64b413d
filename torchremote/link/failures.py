"""torch's account of a failed call -> an error that begins with interface, method, worker and what went wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import torch

from ..errors import (
    ArgumentError,
    CallTimeoutError,
    DisconnectedError,
    RemoteError,
    StaleStubError,
    TorchRemoteError,
    WireError,
)

# How TensorPipe and torch's agents word a lost peer; none has a type or a code.
_LOST = re.compile(
    r"\beof\b|end of file|connection (reset|refused|aborted|closed)|broken pipe|pipe closed|by peer|ECONN|EPIPE|"
    r"shutting down|RPC agent is not set|transport .* error|handshake",
    re.IGNORECASE,
)
# A failure in TorchScript is the first over RPC, and the second where `raise` stands in code that runs here.
FAILURES: Final = (RuntimeError, torch.jit.Error)
_EXCEPTION = re.compile(r"^(?!else|try|finally|class|def)[A-Za-z_][\w.]*: ", re.MULTILINE)
_HERE = "<--- HERE"
UNSENDABLE = "torchremote: cannot send "  # as jit/tensors.py and jit/anything.py begin it


def explain(
    error: Exception, method: str, worker: str, handle: int | None = None, which: Callable[[], str] = str
) -> TorchRemoteError:
    """The error to raise for `error`, which a call of `method` ("Interface.method") on `worker` ended with.

    Args:
        handle: the one that was called, to tell a stale stub from a module that has met with another one.
        which: says in which call of a batch it is; asked only for what the method itself raised.
    """
    text = str(error)
    where = f"{method} on {worker}"
    name = method.rpartition(".")[2]
    called = re.match(
        rf"(_torchremote_packed_)?{name}(_async)?\(\) |(?=Unknown keyword argument |Tracer cannot infer)", text
    )
    if called:
        # Raised while the arguments were converted: nothing was sent.
        return ArgumentError(f"{method}: {text[called.end() :]}")
    message = message_of(error)
    if handle is not None and f"torchremote: stale handle {handle}" in message:
        return StaleStubError(f"{where}: its module was withdrawn; create or connect again\n\n{text}")
    # With its endpoint in the traceback, a call got through; what its module says of other calls is not about this one.
    # Many calls may have been sent as one.
    if not re.search(rf"in _remote_{name.removesuffix('_many')}(_many)?\n", text):
        if message.startswith(UNSENDABLE):
            return ArgumentError(message.removeprefix(UNSENDABLE))
        if "in sendable\n" in text:
            # Raised while a tensor was looked at; the traceback shows the call, and that which argument it was.
            place = re.search(rf'"({re.escape(method)}\.\w+)"', text)
            return ArgumentError(f"{place[1] if place else method}: {unsightly(message)}")
        if "is not connected; call torchremote.reconnect" in message:
            return DisconnectedError(f"{where}: {message}")
        if "RPC ran for more than set timeout" in message:
            return CallTimeoutError(
                f"{where}: {_after_code(message)}; the owner's work goes on. "
                f"Give the stub more time with torchremote.with_timeout, or create it with timeout=...\n\n{text}"
            )
        if is_lost(message):
            return WireError(f"{where}: {_after_code(message)}; whether the method ran is not known\n\n{text}")
    return RemoteError(f"{where}: {which()}{message.removeprefix(UNSENDABLE)}\n\n{text}")


def unsightly(message: str) -> str:
    """What to say of a tensor that raised `message` when it was looked at."""
    first = message.partition("\n")[0]
    return f"torch cannot look at a tensor of it, and so not send it: {first}; pass a plain tensor"


def is_lost(message: str) -> bool:
    """Whether torch says that the peer, or the connection to it, is gone."""
    return _LOST.search(message.partition("\n")[0]) is not None


def message_of(error: Exception) -> str:
    """The exception's own words, which stand under the innermost line of TorchScript's traceback."""
    text = str(error)
    tail = text.rpartition(_HERE)[2] if _HERE in text else text
    found = _EXCEPTION.search(tail)  # lines of source may stand in between, indented or not
    message = tail[found.start() :] if _HERE in text and found else tail
    return re.sub(r"^(builtins\.)?RuntimeError: |^builtins\.", "", message.strip())


def _after_code(message: str) -> str:
    return re.sub(r"^RPCErr:\d+:", "", message)
