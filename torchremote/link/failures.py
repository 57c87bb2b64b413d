"""torch's account of a failure -> an error that begins with interface, method, worker and what went wrong.

torch reports a failure as text. `_TABLE` tells the texts apart; generated code begins its own with the same markers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch

from .._version import PROTOCOL
from ..errors import (
    ArgumentError,
    CallTimeoutError,
    DisconnectedError,
    RemoteError,
    StaleStubError,
    TorchRemoteError,
    WireError,
)
from ..jit.runtime.link import NOT_CONNECTED
from ..jit.runtime.table import STALE
from ..jit.runtime.tensors import CANNOT_SEND

FAILURES: Final = (RuntimeError, torch.jit.Error)
"""What torch raises: the first over RPC, and the second where `raise` stands in TorchScript that runs here."""


@dataclass(frozen=True)
class _Kind:
    """A kind of failure: what its message has, the error that it becomes, and what that says.

    `says` may use `message`, torch's words. `traced`: the error also has torch's whole account.
    """

    marker: re.Pattern[str]
    error: type[TorchRemoteError]
    says: str
    traced: bool = True


# How TensorPipe and torch's agents word a lost peer; none has a type or a code.
_LOST: Final = re.compile(
    r"\A[^\n]*(\beof\b|end of file|connection (reset|refused|aborted|closed)|broken pipe|pipe closed|by peer|ECONN|"
    r"EPIPE|shutting down|RPC agent is not set|transport .* error|handshake)",
    re.IGNORECASE,
)
_TABLE: Final = (
    _Kind(re.compile(re.escape(NOT_CONNECTED)), DisconnectedError, "{message}", traced=False),
    _Kind(
        re.compile("RPC ran for more than set timeout"),
        CallTimeoutError,
        "{message}; the owner's work goes on. Give the stub more time with torchremote.with_timeout, or create it with "
        "timeout=...",
    ),
    _Kind(
        re.compile(r"\Aattempted to get undefined function _remote_"),
        StaleStubError,
        f"the owner has no such endpoint of protocol {PROTOCOL}, which this process speaks: it was restarted, or runs "
        "another release of torchremote; create or connect again",
        traced=False,
    ),
    _Kind(_LOST, WireError, "{message}; whether the method ran is not known"),
)

_EXCEPTION: Final = re.compile(r"^(?!else|try|finally|class|def)[A-Za-z_][\w.]*: ", re.MULTILINE)
_HERE: Final = "<--- HERE"


def explain(
    error: Exception, method: str, worker: str, handle: int | None = None, which: Callable[[], str] = str
) -> TorchRemoteError:
    """Makes the error to raise for `error`, with which a call of `method` ("Interface.method") on `worker` ended.

    Args:
        handle: the one that was called, to tell a stale stub from a module that has met with another one.
        which: says in which call of a batch it is; asked only for what the method itself raised.
    """
    text = str(error)
    where, name = f"{method} on {worker}", method.rpartition(".")[2]
    refused = re.match(
        rf"(_torchremote_packed_)?{name}(_async)?\(\) |(?=Unknown keyword argument |Tracer cannot infer)", text
    )
    if refused:
        # Raised while the arguments were converted: nothing was sent.
        return ArgumentError(f"{method}: {text[refused.end() :]}")
    message = message_of(error)
    if handle is not None and f"{STALE}{handle}" in message:
        return StaleStubError(f"{where}: its module was withdrawn; create or connect again\n\n{text}")
    # With its endpoint in the traceback, a call got through; what its module says of other calls is not about this one.
    # Many calls may have been sent as one.
    if not re.search(rf"in _remote_{name.removesuffix('_many')}(_many)?\n", text):
        refusal = refusal_of(message)
        if refusal is not None:
            return ArgumentError(refusal)
        if "in sendable\n" in text:
            # Raised while a tensor was checked; the traceback shows the call, and that which argument it was.
            place = re.search(rf'"({re.escape(method)}\.\w+)"', text)
            return ArgumentError(f"{place[1] if place else method}: {uncheckable(message)}")
        for kind in _TABLE:
            if kind.marker.search(message):
                said = kind.says.format(message=_without_code(message))
                return kind.error(f"{where}: {said}\n\n{text}" if kind.traced else f"{where}: {said}")
    return RemoteError(f"{where}: {which()}{message.removeprefix(CANNOT_SEND)}\n\n{text}")


def refusal_of(message: str) -> str | None:
    """Returns what generated code says of a value that cannot be sent; None if `message` is no such refusal."""
    return message.removeprefix(CANNOT_SEND) if message.startswith(CANNOT_SEND) else None


def uncheckable(message: str) -> str:
    """Says what is wrong with a tensor that raised `message` when it was checked."""
    first = message.partition("\n")[0]
    return f"torch cannot look at a tensor of it, and so not send it: {first}; pass a plain tensor"


def is_lost(message: str) -> bool:
    """Says whether torch reports that the peer, or the connection to it, is gone."""
    return _LOST.search(message) is not None


def message_of(error: Exception) -> str:
    """Returns the exception's own words, which stand under the innermost line of TorchScript's traceback."""
    text = str(error)
    tail = text.rpartition(_HERE)[2] if _HERE in text else text
    found = _EXCEPTION.search(tail)  # lines of source may stand in between, indented or not
    message = tail[found.start() :] if _HERE in text and found else tail
    return re.sub(r"^(builtins\.)?RuntimeError: |^builtins\.", "", message.strip())


def _without_code(message: str) -> str:
    return re.sub(r"^RPCErr:\d+:", "", message)
