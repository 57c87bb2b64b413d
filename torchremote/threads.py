"""Starts threads of ours, which end with the process, and has its end wait until none of them is inside torch.

Note [Threads and the end of Python]
    When Python ends, a daemon thread that asks for the GIL ends at once, wherever it is. If there are functions of C++
    on its stack, as where torch completes a Future and runs its callbacks, the process aborts. So threads of ours say
    when they are `at_work`, which is when they may be inside torch. At the end, those at work have `LONGEST_WORK` to
    end it, and none begins any more. Then they wait in Python, where it does no harm to be ended.

    `atexit` calls first what was registered last. So this comes after the group has ended RPC (group/join.py), which
    ends the waits for answers, and after the last chores (chores.py). What a user registered before torchremote
    was imported comes later still, and may wait for calls. So what waits for a thread of ours ends with an error
    before that (caller/messages/clock.py). From then on, what needs one is refused at once, and Ctrl-C is waited for
    in another way (caller/messages/waiting.py).
"""

from __future__ import annotations

import _thread
import atexit
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

LONGEST_WORK: Final = 5.0
"""Seconds for which the end of Python waits for threads that are at work."""


class _Work:
    """Knows which threads of ours are at work: see Note [Threads and the end of Python]."""

    def __init__(self) -> None:
        # A handler of a signal may raise in `Condition.__enter__`, which is in Python, when it has the lock.
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.running: set[object] = set()
        self.is_over = False

    def begin(self, one: object) -> None:
        with self.lock:
            self.running.add(one)

    def done(self, one: object) -> None:
        with self.lock:
            self.running.discard(one)
            self.changed.notify_all()

    def end(self, seconds: float) -> None:
        """Lets no more begin, and waits for those that run."""
        with self.lock:
            self.is_over = True
            self.changed.wait_for(lambda: not self.running, seconds)


_work = _Work()


def _after_fork() -> None:
    global _work
    _work = _Work()  # the threads are the parent's


os.register_at_fork(after_in_child=_after_fork)
atexit.register(lambda: _work.end(LONGEST_WORK))


@contextmanager
def at_work() -> Iterator[None]:
    """Has the end of Python wait until the `with` is left.

    Whoever enters it when that end has begun waits in it for ever. So the main thread must not enter it.
    """
    work, one = _work, object()
    with work.lock:
        while work.is_over:
            work.changed.wait()
        work.running.add(one)
    try:
        yield
    finally:
        work.done(one)


def start_thread(run: Callable[[], None], name: str) -> None:
    """Starts a daemon thread. If a handler of a signal raises meanwhile, it runs all the same, or not at all.

    Raises:
        RuntimeError: this process can start no more, or ends.
    """
    if _work.is_over:
        raise RuntimeError("this process ends, and starts no more threads")

    # `Thread.start` waits for an Event. A handler that raises there may leave the Event's lock taken for ever.
    def start() -> None:
        try:
            threading.Thread(target=run, name=name, daemon=True).start()
        except RuntimeError:  # there is but one thread more
            run()

    if threading.get_ident() == threading.main_thread().ident:
        _thread.start_new_thread(start, ())  # it is in C; and handlers run in the main thread alone
    else:
        threading.Thread(target=run, name=name, daemon=True).start()


def start_at_work(run: Callable[[], None], name: str) -> None:
    """Starts a thread as `start_thread` does, that is at work from now on and not only when it has begun."""
    work, one = _work, object()

    def run_at_work() -> None:
        try:
            run()
        finally:
            work.done(one)

    work.begin(one)
    try:
        start_thread(run_at_work, name)
    except BaseException:
        work.done(one)
        raise


def _nothing() -> None: ...


class OneThread:
    """Runs a function in a thread of its own, which is started when it is needed first.

    A signal's handler may raise at any instruction of `start`, even when the thread has just begun. So `start` notes
    nothing: the thread itself says that it runs. If a second one was started, it ends at once.
    """

    def __init__(self, run: Callable[[], None], name: str) -> None:
        self._run, self._name = run, name
        self._running = threading.Lock()  # is held by the thread that runs
        self._ident: int | None = None  # of that one
        self._is_over = False

    def start(self) -> None:
        """Starts the thread, unless it runs. Raises RuntimeError if this process can start no more."""
        if not self._running.locked():
            start_thread(self._run_alone, self._name)

    @property
    def is_running(self) -> bool:
        """Says whether the thread has begun, and has not ended."""
        return self._running.locked()

    def _run_alone(self) -> None:
        if self._running.acquire(blocking=False):
            try:
                run = self._run
                if not self._is_over:
                    self._ident = threading.get_ident()
                    run()
            finally:
                self._ident = None
                self._running.release()

    def wait(self, seconds: float) -> None:
        """Waits until the thread has ended, for so many seconds at most. It does not wait for itself."""
        if self._ident != threading.get_ident() and self._running.acquire(timeout=seconds):
            self._running.release()

    def end(self, seconds: float) -> None:
        """Waits as `wait` does. A thread that was started, and has not begun yet, does nothing."""
        self._is_over = True
        try:
            self.wait(seconds)
        finally:
            self._run = _nothing  # if it is a method of the object that has this one, that goes without a collection

    def forget(self) -> None:
        """Has the thread be started anew in a forked process, which does not have it."""
        self._running = threading.Lock()
        self._ident = None  # a thread of the child may get the number of the parent's
