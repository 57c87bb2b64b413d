"""Turns torch's report of a failure into an error that begins with interface, method, worker and the reason.

torch reports a failure as text. `_TABLE` tells the texts apart. Generated code begins its own messages with the same
markers.

Note [Refused calls]
    An owner that does not have a module any more refuses its calls. A call that was refused has not run, so it may be
    sent again. But the method of a call that did run may have called a module that is gone, even its own one. Then the
    refusal of that call ends this one. No handle tells the two apart. The traceback does. When a call that an endpoint
    runs has failed, TorchScript adds the endpoint's definition, `def _remote_m(`. The refusal itself is in `find`
    (jit/runtime/table.py), which is inlined: it adds lines of `find`, under the endpoint's name. So an error with the
    definition of an endpoint is of a call that ran. native/following.cpp has the same rule.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch

from .. import _torch
from .._version import PROTOCOL
from ..errors import (
    ArgumentError,
    CallTimeoutError,
    DisconnectedError,
    MismatchError,
    NotInGroupError,
    NotInitializedError,
    RemoteError,
    StaleStubError,
    TorchRemoteError,
    WireError,
)
from ..jit.runtime.exported import OTHERWISE
from ..jit.runtime.link import NOT_CONNECTED
from ..jit.runtime.table import STALE
from ..jit.runtime.tensors import CANNOT_SEND
from .lost import CLOSED_HERE, IN_TENSORPIPE, LOST

FAILURES: Final = (RuntimeError, torch.jit.Error, UnicodeDecodeError)
"""The exceptions that torch raises: over RPC, for a `raise` in TorchScript that runs here, for what is not UTF-8."""
NOT_UTF8: Final = (
    "its result, or its error, has a string that is not UTF-8, as when TorchScript cuts one inside a character; cut it "
    "elsewhere, or return a list of numbers"
)


@dataclass(frozen=True)
class _Kind:
    """A kind of failure: a pattern in torch's message, the class of our error, and our message.

    `says` may use `message`, the first line of torch's words; `worker`; `unsure`, what nobody knows; and `during`, when
    it came. `traced`: the error also has torch's whole report, if it has more than that line.
    """

    marker: re.Pattern[str]
    error: type[TorchRemoteError]
    says: str
    traced: bool = True


# Of a scripted call, and of torch's functions in Python.
_NOT_RUNNING: Final = re.compile(r"\A(Current RPC agent is not set|RPC has not been initialized)")
_ENDS: Final = re.compile(r"\A[^\n]*RPC is no longer running on this node")
MISFIT: Final = "torchremote: what is served by now does not fit: "
"""The beginning of the error of a call of the native part whose module is not what its interface says any more."""
WHEN_RUNNING: Final = "call stubs between init_rpc(...) and rpc.shutdown(), or join(...) and leave()"
FORKED: Final = (
    "this process was forked from one in which RPC was running, and has none of its threads; fork before init_rpc, or "
    "start processes with the 'spawn' or 'forkserver' method of multiprocessing"
)
_LEFT: Final = "the worker has left the group or crashed, and is not back"
_START_AGAIN: Final = "start it again under its name"
GONE: Final = f"{_LEFT}; nothing was sent; {_START_AGAIN}"
NO_MODULE: Final = (
    "its module is gone: it was withdrawn, or its worker was restarted; create it again, or connect if it has a name"
)
SOME_MAY_HAVE_RUN: Final = "the calls went in several messages, so some may have run"
"""The end of an error of `<m>_many` that would else mean that none of its calls ran."""
MORE_TIME: Final = "Give the stub more time with torchremote.with_timeout, or create it with timeout=..."
"""The remedy for a call that timed out, in a program."""
_LOST_PEER: Final = _Kind(
    LOST,
    WireError,
    "the connection to {worker} was lost: its process ended, or the network failed ({message}); whether {unsure} is "
    "not known",
)
_OWN_END: Final = _Kind(
    CLOSED_HERE,
    WireError,
    "this process left its group, or ended RPC, {during}; whether {unsure} is not known",
    traced=False,
)
_TABLE: Final = (
    _Kind(re.compile(re.escape(NOT_CONNECTED)), DisconnectedError, "{message}", traced=False),
    _Kind(
        re.compile("RPC ran for more than set timeout"),
        CallTimeoutError,
        f"{{message}}; the owner's work goes on. {MORE_TIME}",
    ),
    _Kind(
        re.compile(r"\Aattempted to get undefined function _remote_"),
        StaleStubError,
        f"the owner has no such endpoint of protocol {PROTOCOL}, which this process speaks: it was restarted, or runs "
        "another release of torchremote; create or connect again",
        traced=False,
    ),
    _Kind(
        re.compile(r"\Aname:[^\n]*could not find destination"),
        NotInGroupError,
        GONE,
        traced=False,
    ),
    _Kind(re.compile(r"\A'utf-8' codec can't decode"), RemoteError, NOT_UTF8 + ": {message}", traced=False),
    _LOST_PEER,
)

_GATHERED: Final = (
    "the owner made one call of this one and others, and it failed for all (declare the method "
    "@torchremote.idempotent, and each runs again by itself): "
)
_JOINED: Final = (
    "its calls were sent as one call of concatenated tensors, and that was refused (return_exceptions=True sends each "
    "by itself): "
)
_REFUSED: Final = re.compile(r'"<torchremote (\w+)#\w+ table>", line \d+, in _remote_(\w+)\n')
_GONE_WITHIN: Final = (
    "it led to a call of {}, whose module is gone: it was withdrawn, or its worker was restarted; if it has a name, "
    "torchremote.reconnect(...) has the module that called find it again, and the native part does that by itself"
)
_LOST_WITHIN: Final = (
    "it called a worker, and the connection to that was lost: its process ended, or the network failed ({})"
)
_EXCEPTION: Final = re.compile(r"^(?!else|try|finally|class|def)[A-Za-z_][\w.]*: ", re.MULTILINE)
_HERE: Final = "<--- HERE"
_CHECKING: Final = re.compile(r"in (is_ordinary|sendable|unknown_to_python)\n")


def check_not_forked(asked: str = "") -> None:
    """Raises NotInitializedError in a process that was forked from one in which RPC ran: nobody would ever answer.

    Args:
        asked: the beginning of the error, as in "leave: ".
    """
    if _torch.was_forked_from_rpc():
        raise NotInitializedError(f"{asked}{FORKED}")


def explain(error: Exception, method: str, worker: str, which: Callable[[], str] = str) -> TorchRemoteError:
    """Makes the error to raise after a call of `method` ("Interface.method") on `worker` ended with `error`.

    First it finds out how far the call came, and then what the message says.

    Args:
        which: says which call of a batch failed. It is asked only if the method itself raised.
    """
    text = str(error)
    refused = re.match(
        rf"(_torchremote_packed_)?{_name_of(method)}(_async)?\(\) |(?=Unknown keyword argument |Tracer cannot infer)",
        text,
    )
    if refused:
        # TorchScript raised while it converted the arguments. Nothing was sent.
        return ArgumentError(f"{method}: {text[refused.end() :]}")
    message = message_of(error)
    # If the traceback has the endpoint, or the function that runs its calls, the call got through. Then the message is
    # the module's own, and may be about a call that the module made. Many calls of a batched method may be one call.
    one = _name_of(method).removesuffix("_many")
    got_through = re.search(rf"def _remote_{one}(_many)?\(|in _run_{one}(_many|_\d+)?\n", text)
    failure = None if got_through else _on_the_way(text, message, method, worker)
    return failure or _in_the_method(text, message, method, worker, which)


def _name_of(method: str) -> str:
    return method.rpartition(".")[2]


def _on_the_way(text: str, message: str, method: str, worker: str) -> TorchRemoteError | None:
    """Makes the error of a call that did not get as far as its method. None: it says nothing that is known.

    Args:
        text: all that torch reports.
        message: the words of the error in it.
    """
    where, name = f"{method} on {worker}", _name_of(method)
    in_parts = re.search(rf"fork\(in_parts_{name}(_\d+)?,[^\n]*\n[ ~]*{_HERE}", text)
    if message.startswith(MISFIT):
        return MismatchError(message.removeprefix(MISFIT))
    if message.startswith(STALE) and re.search(rf"in _remote_{name.removesuffix('_many')}(_many)?\n", text):
        # See Note [Refused calls].
        stale = StaleStubError(f"{where}: {NO_MODULE}" + (f"; {SOME_MAY_HAVE_RUN}" if in_parts else ""))
        stale._some_may_have_run = in_parts is not None
        return stale
    refusal = refusal_of(message)
    if refusal is not None:
        return ArgumentError(refusal)
    if _CHECKING.search(text):
        # torch raised while it checked a tensor. The traceback shows the call with the argument's name.
        place = re.search(rf'"({re.escape(method)}\.\w+)"', text)
        return ArgumentError(f"{place[1] if place else method}: {uncheckable(message)}")
    if _ENDS.search(message) or (_NOT_RUNNING.search(message) and not _torch.rpc_running()):
        if _torch.was_forked_from_rpc():
            return NotInitializedError(f"{where}: {FORKED}")
        sent = "and nothing was sent" if "." in method else "or ends"
        return NotInitializedError(f"{where}: RPC is not running in this process, {sent}; {WHEN_RUNNING}")
    kind = next((kind for kind in _TABLE if kind.marker.search(message)), None)
    if kind is _LOST_PEER and CLOSED_HERE.search(message) and not _torch.rpc_sends():
        kind = _OWN_END
    if kind is None:
        return None
    if kind.error is NotInGroupError and in_parts:
        gone = NotInGroupError(f"{where}: {_LEFT}; {SOME_MAY_HAVE_RUN}; {_START_AGAIN}")
        gone._some_may_have_run = True
        return gone
    is_call = "." in method
    during = "while the call ran" if is_call else "before it got the answer"
    unsure = ("it ran" if kind is _OWN_END else "the method ran") if is_call else "it was done"
    first = _without_code(message).partition("\n")[0]
    said = kind.says.format(message=first, worker=worker, unsure=unsure, during=during)
    is_traced = kind.traced and "\n" in text.strip()
    return kind.error(f"{where}: {said}\n\n{text}" if is_traced else f"{where}: {said}")


def _in_the_method(text: str, message: str, method: str, worker: str, which: Callable[[], str]) -> RemoteError:
    """Makes the error of a call whose method raised, or called another module and that failed."""
    name = _name_of(method)
    one = name.removesuffix("_many")
    called = _REFUSED.findall(text)
    if called and message.startswith(STALE):
        message = _GONE_WITHIN.format(".".join(called[-1]))
    elif IN_TENSORPIPE in message.partition("\n")[0]:
        message = _LOST_WITHIN.format(_without_code(message).partition("\n")[0])
    said = message.removeprefix(CANNOT_SEND).removeprefix(OTHERWISE).removeprefix(f"{method.removesuffix('_many')}: ")
    gathered = _GATHERED if re.search(rf"in _gathered_{name}(_\d+)?\n", text) else ""
    traced = f"\n\n{text}"
    if message.startswith(OTHERWISE):
        traced = ""  # generated code is of no use to the reader
        if name != one and re.search(rf"def split_{one}(_\d+)?\(link(_\d+)?: Link, ", text):
            gathered = _JOINED
    return RemoteError(f"{method} on {worker}: {which()}{gathered}{said}{traced}")


def refused_handle(error: Exception) -> int | None:
    """Returns the handle in an owner's refusal of a call: see Note [Refused calls]. None: `error` is none."""
    found = re.search(rf"{STALE}(-?\d+)", str(error))
    return int(found[1]) if found else None


def refusal_of(message: str) -> str | None:
    """Returns the reason why generated code refused to send a value. None if `message` is no such refusal."""
    return message.removeprefix(CANNOT_SEND) if message.startswith(CANNOT_SEND) else None


def uncheckable(message: str) -> str:
    """Words the refusal of a tensor that raised `message` when it was checked."""
    first = message.partition("\n")[0]
    return f"torch cannot look at a tensor of it, and so not send it: {first}; pass a plain tensor"


_OPERATORS: Final = (
    re.compile(r"Unknown builtin op: (?!aten::|prim::)(?P<library>\w+)::(?P<operator>\w+)"),
    re.compile(r"'_OpNamespace' '(?P<library>\w+)' object has no attribute '(?P<operator>\w+)'"),
    re.compile(r"object has no attribute (?P<operator>\w+):[\s\S]*?\btorch\.ops\.(?P<library>\w+)\.(?P=operator)\b"),
)


_PACKAGE: Final = "Unknown type name '__torch__.torch.classes.torchremote_native.Package'"


def missing_operator(message: str) -> str:
    """Returns what to do if torch's message says that a process lacks an operator of a library, and else ""."""
    if _PACKAGE in message:
        return (
            "AOTInductor compiled the module, and the owner does not use the native part; run `python -m torchremote "
            "build-native` there"
        )
    for pattern in _OPERATORS:
        found = pattern.search(message)
        if found:
            library = found["library"]
            name = f"{library}::{found['operator']}"
            return f"the owner does not know the operator {name}; import {library} on the owner, or what defines it"
    return ""


def message_of(error: Exception) -> str:
    """Returns the exception's own message, which is under the innermost line of TorchScript's traceback."""
    text = str(error)
    tail = text.rpartition(_HERE)[2] if _HERE in text else text
    found = _EXCEPTION.search(tail)  # lines of source may come first, indented or not
    message = tail[found.start() :] if _HERE in text and found else tail
    return re.sub(r"^(builtins\.)?RuntimeError: |^builtins\.", "", message.strip())


def _without_code(message: str) -> str:
    """Removes torch's error code from the beginning of a message."""
    return re.sub(r"^RPCErr:\d+:", "", message)
