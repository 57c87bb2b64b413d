"""Decides what becomes of failed calls of the native part, which keeps them until then: native/following.cpp.

Note [Failed calls of the native part]
    TorchScript cannot catch an error. So with the native part, a link of a module with a name keeps a call that failed,
    and the caller goes on waiting. A thread of ours decides by the rules of calls/again.py, Note [Sent again]:

    * The owner refused it, because it does not have the module any more. The call has not run. The module is found, as
      in follow.py, and the call is sent there, whatever its method.
    * It got lost, and its method is `@idempotent`. It is sent again after a pause.
    * Everything else ends with its error.

    The link's Route keeps where the module is found, so later calls go there at once. The link itself stays, whoever is
    reading it.

    If the module runs calls in turn, a link keeps their order. When the module is found, its Route holds the calls that
    were refused, and new ones, until all that went to the old place were answered or refused, for a second at most: see
    native/route.h.

    At its deadline, C++ ends a call with its last error, whether this thread gets the GIL or not. The thread does not
    wait for owners. It asks them, and a callback takes the answer. Calls of one link that are refused together ask
    once.

    In a context of distributed autograd, the message of a call is recorded. If a second one were sent, torch would wait
    for the gradients of the first, too. So such a call ends with its error, and only those after it follow.

    Calls from Python use the same links, and gain the same. What is left of the rules for them is in calls/again.py.
    Links of replicas have no Route: a call that fails goes to another replica.
"""

from __future__ import annotations

import atexit
import functools
import logging
import os
import time
from typing import Any

from ... import native
from ...errors import MismatchError, StaleStubError, TorchRemoteError, WireError
from ...jit.read.parse import parse_interface
from ...link.failures import MISFIT, explain
from ...link.places import find_worker
from ...link.route import Address, Route, new_stream
from ...link.stubs import compiled_at
from ...link.timeouts import seconds_of
from ...locks import new_lock
from ...threads import OneThread, at_work
from ..calls.following import NamedStubMethods
from ..creating.pending_stub import PendingStub, ask_for_served, when_answered
from ..messages.lost_workers import worker_is_lost
from ..messages.pauses import pause_of
from ..stubs.shared_mode import follow_mode, keep_mode

Call = Any
"""A RoutedCall of native/following.cpp."""
Key = tuple[Address, int]
"""Names a search: the address of a link, and the handle that the owner refused."""

_log = logging.getLogger("torchremote")
_lock = new_lock()
_searches: dict[Key, list[Call]] = {}  # the calls that wait for an answer


def _after_fork() -> None:
    # The thread is the parent's, and so are the calls.
    _thread.forget()
    _searches.clear()
    if native.available():
        native.forget_failed()


os.register_at_fork(after_in_child=_after_fork)


@atexit.register
def _at_exit() -> None:
    if _thread.is_running:
        native.rest_failed()


def start() -> None:
    """Starts the thread that decides, unless it runs or there is no native part. It ends with the process."""
    if native.available():
        _thread.start()


NamedStubMethods.decide_failed = staticmethod(start)


def _run() -> None:
    while True:
        _decide_next()


_thread = OneThread(_run, "torchremote-failed-calls")


def _decide_next() -> None:  # a function of its own, so that nothing is kept of a call while there is no other
    call = native.next_failed()
    with at_work():
        try:
            _decide(call)
        except Exception:
            _log.exception("torchremote: a bug; a call that failed ends with its error")
            call.end()


def _decide(call: Call) -> None:
    """Decides what becomes of a call that failed, or whose pause is over."""
    address = Address(*call.address())
    if call.is_rested():
        if worker_is_lost(address.worker):  # nothing is sent to a worker that may be taken off just now
            _send_later(call)
        else:
            call.send_again()
        return
    interface, _ = _facts(address.qualified_name, address.declaration)
    failure = explain(RuntimeError(call.error()), f"{interface}.{call.method()}", address.worker)
    if isinstance(failure, StaleStubError):
        _search(address, call)
    elif isinstance(failure, WireError):
        _rest_or_end(call)
    else:
        call.end()


def _send_again(call: Call) -> None:
    """Has a call that has not run be sent again, if that does no harm."""
    if call.is_recorded():
        call.end()
    else:
        call.send_again()


def _rest_or_end(call: Call) -> None:
    """Has a call that may have run be sent again after a pause, if that does no harm."""
    address = Address(*call.address())
    _, idempotent = _facts(address.qualified_name, address.declaration)
    if call.method() in idempotent and not call.is_recorded():
        _send_later(call)
    else:
        call.end()


def _send_later(call: Call) -> None:
    call.send_later(pause_of(call.pauses()))


@functools.lru_cache(maxsize=256)
def _facts(qualified_name: str, declaration: str) -> tuple[str, frozenset[str]]:
    """Returns the name of an interface, and the names of its messages that may be sent twice."""
    interface = parse_interface(qualified_name, declaration)
    idempotent = [method for method in interface.methods if method.idempotent]
    return interface.name, frozenset(one.name for method in idempotent for one in (method, method.many))


# -- finding modules


def _search(address: Address, call: Call) -> None:
    """Asks the worker for the module, unless that is done. The call goes on when the answer is there."""
    key = address, call.handle()
    with _lock:
        is_found = call.reached() != call.handle()
        is_asked = not is_found and key in _searches
        if not is_found:
            _searches.setdefault(key, []).append(call)
    if is_found:
        _send_again(call)
    elif not is_asked:
        _ask(key)


def _ask(key: Key) -> None:
    """Asks the worker for the module that calls wait for."""
    address, _ = key
    try:
        worker, limit = find_worker(address.worker), address.seconds
        until = time.monotonic() + seconds_of(limit)
        pending = ask_for_served(worker, compiled_at(address), address.name, limit, within=limit)
        when_answered(pending, functools.partial(_answered, key, until, pending))
    except TorchRemoteError:  # the worker is lost since
        for call in _end_search(key):
            _rest_or_end(call)
    except BaseException:
        for call in _end_search(key):
            call.end()
        raise


def _end_search(key: Key, found: Route | None = None) -> list[Call]:
    """Has the links lead to the module, if it was found. Returns the calls that wait. Later ones ask anew."""
    with _lock:
        calls = _searches.pop(key, [])  # none if the answer was taken, and what came of it raised
        for call in calls:
            if found is not None and call.reached() == call.handle():  # it is the first of its link
                call.exchange(found.handle, found.device, new_stream(found))
        return calls


def _answered(key: Key, until: float, pending: PendingStub) -> None:
    """Has calls go on when the worker has answered, and the module has the mode that was set here."""
    address, before = key
    try:
        found = pending.route()
    except Exception as error:
        _go_on(key, error)
        return
    interface, _ = _facts(address.qualified_name, address.declaration)
    keep_mode(before, found, f"{interface} on {address.worker}", until, functools.partial(_go_on, key))


def _go_on(key: Key, found: Route | Exception) -> None:
    """Has calls go on with what was found, or with why nothing was."""
    _, before = key
    for call in _end_search(key, found if isinstance(found, Route) else None):
        if isinstance(found, MismatchError):
            call.end_with(f"{MISFIT}{found}")
        elif isinstance(found, TorchRemoteError):  # the worker does not serve the name, say
            _rest_or_end(call)
        elif isinstance(found, Exception) or found.handle == before:  # a bug; or the same module, which refuses calls
            call.end()
        else:
            _send_again(call)
    if isinstance(found, Route):
        follow_mode(before, found)
    elif not isinstance(found, TorchRemoteError):
        _log.error("torchremote: a bug; calls that failed end with their errors", exc_info=found)
