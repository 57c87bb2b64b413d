"""Waits for a Future so that a signal, such as that of Ctrl-C, ends the waiting or is handled during it.

Note [Waiting and signals]
    `Future.wait()` waits in C++. Python runs the handlers of signals in the main thread, between two of its
    instructions, so none runs until the answer is there. A lock that a callback of the Future releases can be
    interrupted, but the callback needs the GIL: it makes a call 11 to 24% slower.

    So the main thread waits for a *gate*: a Future that torch completes, in C++, when the answer is complete. For that
    time, Python writes the number of each signal that has a handler into a pipe. A thread of ours reads it, and
    completes the gate. The main thread wakes up and runs the handler. If that raises, as that of Ctrl-C does, the
    waiting has ended. If not, it goes on with a callback and a lock. So does the wait of a call that a handler makes,
    because the gate and the pipe are still those of the wait that it interrupts. So does each wait while no thread or
    pipe can be made.

    The answer itself must not be completed by anybody but torch. torch would raise when the answer arrives, on a thread
    of its own, and would not count the call as ended; an orderly shutdown would wait for it for ever. torch does ask
    whether a gate is complete before it completes it. It asks and completes in two steps, some ten nanoseconds apart.
    So that the answer of a short call does not arrive between the two, a gate is completed only if the main thread has
    waited for `PATIENCE` after the signal, which is longer than most calls take.

    With the native part it is simpler: C++ waits for `ONE_WAIT` at most, without the GIL, and then again. In between,
    Python runs the handlers. The first of these waits is part of the sending, in calls/native_call.py: it costs less
    than another call of C++.

Note [Callbacks that wait]
    Callbacks of Futures run on the threads of RPC, of which there are 16. So do the answers, and the timeouts: if each
    thread waits in a callback for an answer, none arrives, and the process waits for ever. So those that wait there are
    counted, and the one that would be the last does not wait: it raises. Scripted calls that wait in C++ are not
    counted, but then none of RPC's threads is idle, and there are fewer of ours.
"""

from __future__ import annotations

import atexit
import functools
import os
import select
import sys
import threading
import time
from contextlib import suppress
from signal import getsignal, set_wakeup_fd, valid_signals
from threading import _DummyThread, current_thread, get_ident
from typing import Any, Final, TypeVar

from ... import _torch, native
from ...errors import CallTimeoutError
from ...link.failures import check_not_forked
from ...locks import new_lock
from ...threads import OneThread, at_work

E = TypeVar("E", bound=BaseException)

PATIENCE: Final = 0.1
"""Seconds between a signal and the end of the waiting."""

ONE_WAIT: Final = 0.1
"""Seconds of one wait in C++, after which handlers of signals run."""

_AT_ONCE: Final = 4096  # signals that are read at once, each a byte


class _Listener:
    """Knows for which gate the main thread waits, and completes it when a signal arrives."""

    def __init__(self) -> None:
        self.gate: Any = None
        self._reading, self.writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self.writing, False)
        self._lock = threading.Lock()  # is held by whoever reads
        self._seen: tuple[Any, bytes] = None, b""  # a gate, and the signals that arrived during the wait for it
        self.thread = OneThread(self._listen, "torchremote-signals")

    def _listen(self) -> None:
        written = select.poll()  # `select` takes no descriptor above 1,023
        written.register(self._reading, select.POLLIN)
        while True:
            written.poll()
            with self._lock:
                self._seen = self.gate, self._read()
            time.sleep(PATIENCE)
            self._wake(self._seen[0])
            self._seen = None, b""

    def _wake(self, gate: Any) -> None:
        """Completes `gate`, and returns when the main thread does not wait for it any more."""
        # If it waits for another gate by now, it has run the handlers in between.
        if gate is not None and self.gate is gate and not gate.done():
            with suppress(RuntimeError), at_work():  # the answer has arrived in the meantime
                gate.set_result(None)
        while gate is not None and self.gate is gate:
            time.sleep(PATIENCE)

    def _read(self) -> bytes:
        try:
            return os.read(self._reading, _AT_ONCE)
        except BlockingIOError:
            return b""

    def pass_on(self, gate: Any, other: int) -> None:
        """Writes the signals that arrived during the wait for `gate` into the pipe `other`."""
        with self._lock:
            seen_at, signals = self._seen
            signals = (signals if seen_at is gate else b"") + self._read()
        if signals:
            os.write(other, signals)

    def close(self) -> None:
        """Closes the pipe, in a forked process that has no such thread."""
        for end in (self._reading, self.writing):
            with suppress(OSError):  # the process has closed all that it had from its parent
                os.close(end)


_gate_of, _is_done = _torch.gate_of, _torch.is_done
_is_native, _wait_for = native.available(), native.wait_for
_listener: _Listener | None = None  # whose thread runs
_begun: _Listener | None = None  # whose thread may not have been started yet
_main_thread = threading.main_thread().ident
_is_over = False  # Python ends, and nobody reads signals any more
_before = -1  # whose pipe it was before the last wait; -1: nobody's


def _after_fork() -> None:
    # The thread is the parent's, and so is the pipe: a child that kept its ends would hand them on to its own children.
    global _listener, _begun, _main_thread
    if _listener is not None and _listener.gate is not None:
        set_wakeup_fd(-1)
    if _begun is not None:
        _begun.close()
    _listener, _begun, _main_thread = None, None, threading.main_thread().ident


os.register_at_fork(after_in_child=_after_fork)


@atexit.register
def _at_exit() -> None:
    # The thread could not complete a gate: see threads.py, Note [Threads and the end of Python].
    global _listener, _is_over
    _listener, _is_over = None, True


def wait(answer: Any) -> Any:
    """Waits for a Future as `wait_until_done` does, and returns its value or raises its error."""
    wait_until_done(answer)
    return answer.wait()


def wait_until_done(answer: Any) -> None:
    """Waits until a Future has a value or an error: see Note [Waiting and signals].

    In other threads of Python, this leaves the waiting to the Future's `wait`.

    Raises:
        BaseException: whatever the handler of a signal raises, as KeyboardInterrupt.
        CallTimeoutError: this is a callback, and all other threads of RPC wait in callbacks: no answer would arrive.
        NotInitializedError: this process was forked from the one that waits for the answer.
    """
    global _before
    if _is_done(answer):
        return
    check_not_forked()
    if get_ident() != _main_thread:
        if isinstance(current_thread(), _DummyThread):  # Python did not start it
            _wait_in_callback(answer)
        return
    if _is_native:
        while not _wait_for(answer, ONE_WAIT):
            check_not_forked()  # by a handler
        return
    listener = _listener or _start_listener()
    if listener is None or listener.gate is not None:  # nobody reads signals, or a handler calls
        _until_called_back(answer)
        return
    # Where cores are few, what runs between here and `gate.wait()` takes time from the threads that bring the answer.
    listener.gate = gate = _gate_of(answer)
    arrived: Any = True
    try:
        _before = set_wakeup_fd(listener.writing)  # if a handler raises here, it stays the same as in the last wait
        arrived = gate.wait()
    except Exception as error:
        # The answer's own error is raised in this frame. A handler has a frame of its own.
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
            raise
    finally:
        try:
            set_wakeup_fd(_before)
            if _before != -1 and listener is _listener:  # asyncio's, say; and no handler has forked this process
                listener.pass_on(gate, _before)
        finally:
            listener.gate = None
    if arrived is None:
        check_not_forked()  # by a handler
        _until_called_back(answer)


_waiting_lock = new_lock()
_waiting = 0  # threads that Python did not start


def _wait_in_callback(answer: Any) -> None:
    """Waits on a thread of RPC: see Note [Callbacks that wait]."""
    global _waiting
    with _waiting_lock:
        _waiting += 1
        waiting = _waiting
    try:
        count, idle = _torch.threads_of_rpc()
        if waiting >= count > 0 and idle == 0 and not _is_done(answer):
            raise CallTimeoutError(
                f"all {count} threads on which RPC runs callbacks wait for what callbacks called, so no answer would "
                "arrive; in a callback, call <method>_async and add the next callback to its Future, or wait in a "
                "thread of your own; rpc_options(threads=...) gives RPC more"
            )
        with suppress(Exception):  # the answer's, which its own `wait` raises
            _gate_of(answer).wait()
    finally:
        with _waiting_lock:
            _waiting -= 1


def _start_listener() -> _Listener | None:
    """Starts the thread that reads signals, if this thread is one that handles them.

    Returns None if it is not, or if this process has no more threads or files. The next wait tries again.
    """
    global _listener, _begun, _main_thread
    if _is_over:
        return None
    try:
        set_wakeup_fd(set_wakeup_fd(-1))
    except ValueError:  # Python is embedded, and its main thread is another one
        _main_thread = None
        return None
    try:
        _begun = _begun or _Listener()
        _begun.thread.start()
    except (RuntimeError, OSError):
        return None
    _listener = _begun
    return _listener


def _until_called_back(answer: Any) -> None:
    """Waits in a way that lets the handlers of signals run meanwhile. It costs more."""
    arrived = threading.Lock()
    arrived.acquire()
    _torch.when_done(answer, lambda _: arrived.release())
    arrived.acquire()


def is_of_a_handler(error: BaseException) -> bool:
    """Says whether a signal's handler raised `error`, to the frame that has just caught it.

    A handler has a frame. Those of others, who may wrap the methods of torch, say nothing.
    """
    codes = {_code_of(getsignal(number)) for number in valid_signals()} - {None}
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace = trace.tb_next
    return False


def unless_of_a_handler(*kinds: type[E]) -> tuple[type[E], ...]:
    """Names these errors, for `except`, unless a signal's handler raised the one that is being caught.

    Use it where an `except` does not raise the error again: what a handler raises ends the call.
    """
    error = sys.exception()
    return () if isinstance(error, kinds) and is_of_a_handler(error) else kinds  # others match no kind


class SuppressFailures(suppress):
    """Suppresses errors as `contextlib.suppress` does, unless a signal's handler raised them."""

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        return super().__exit__(kind, error, trace) and not (error is not None and is_of_a_handler(error))


def _code_of(handler: Any) -> Any:
    """Returns the code that runs first when a handler is called. None: there is no Python in it."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    if not callable(handler):  # what is done by default, say
        return None
    return getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)
