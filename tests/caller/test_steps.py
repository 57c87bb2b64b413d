"""What waits without a thread, and the thread that keeps the time for all of it."""

import _thread
import dis
import itertools
import signal
import sys
import threading
import time

import pytest
import torch

from torchremote.caller.messages import steps
from torchremote.caller.messages.clock import _Clock, at_latest, call_soon
from torchremote.errors import NotInGroupError

from ..waiting import until


def test_what_no_thread_could_be_started_for_is_never_called(monkeypatch):
    clock, real = _Clock(), _thread.start_new_thread
    called, done = [], threading.Event()

    def start(*given):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", start)
    with pytest.raises(RuntimeError, match="can't start"):
        clock.call_after(0.0, lambda: called.append("refused"), print)
    monkeypatch.setattr(_thread, "start_new_thread", real)
    clock.call_after(0.0, lambda: called.append("taken"), print)
    clock.call_after(0.01, done.set, print)
    assert done.wait(10)
    assert called == ["taken"]


def test_the_thread_that_keeps_the_time_outlives_what_is_no_exception():
    def exits():
        yield 0.0
        raise SystemExit("as a step of the user's may")

    def gives(value):
        given.append(value)
        done.release()
        raise SystemExit("as a callback may")

    given, done = [], threading.Semaphore(0)
    for _ in range(2):
        steps.run_later(exits(), gives, True)
        assert done.acquire(timeout=10)
    assert [type(failure.new()) for failure in given] == [SystemExit, SystemExit]


def test_a_callback_of_a_result_may_wait_for_what_the_thread_that_keeps_the_time_does():
    def returns():
        yield 0.0
        return "result"

    def gives(value):  # as a callback of the user's may, which calls another stub
        steps.run_later(returns(), lambda other: given.append((value, other)) or inner.set(), True)
        assert inner.wait(10)
        outer.set()

    given, inner, outer = [], threading.Event(), threading.Event()
    steps.run_later(returns(), gives, True)
    assert outer.wait(20)
    assert given == [("result", "result")]


def test_a_result_is_given_where_no_thread_can_be_started(monkeypatch):
    def returns():
        yield 0.0
        return "result"

    call_soon(lambda: None, print)  # the thread that keeps the time runs
    real, given, done = threading.Thread.start, [], threading.Event()

    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    steps.run_later(returns(), lambda value: given.append(value) or done.set(), True)
    assert done.wait(10)
    monkeypatch.setattr(threading.Thread, "start", real)
    assert given == ["result"]


def test_what_a_handler_raises_leaves_the_steps():
    def waits():
        for _ in range(2):
            try:
                yield torch.futures.Future()
            except (RuntimeError, NotInGroupError):
                went_on.append(True)

    def handle(*_):
        raise NotInGroupError("of the handler")

    went_on, before = [], signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
        with pytest.raises(NotInGroupError, match="of the handler"):
            steps.run_here(waits())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert went_on == []


def test_deadlines_of_what_has_ended_are_not_kept(monkeypatch):
    clock = _Clock()
    monkeypatch.setattr("torchremote.caller.messages.clock._clock", clock)
    futures = [torch.futures.Future() for _ in range(50)]
    end = time.monotonic() + 3600
    waiting = [at_latest(end, future, TimeoutError("late")) for future in futures]
    assert len(clock._due) == 50
    for number, future in enumerate(futures):
        future.set_result(number)
    assert torch.futures.wait_all(waiting) == list(range(50))
    until(lambda: not clock._due)
    assert at_latest(end, futures[0], TimeoutError("late")) is futures[0]


def interrupted(do, number):
    """Raises KeyboardInterrupt at one of the places where Python runs handlers. Says whether there are so many.

    They are where it enters a function, and after a call: of our functions, and of what takes a lock for them.
    """
    left, before = itertools.count(number, -1), {}
    enters = threading.Condition.__enter__.__code__

    def is_ours(frame):
        return "/torchremote/" in frame.f_code.co_filename

    def trace(frame, event, arg):
        if not is_ours(frame) and not (frame.f_code is enters and is_ours(frame.f_back)):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            last = before.get(frame)
            before[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if last in ("RESUME", "CALL", "CALL_KW") and next(left) == 0:
                raise KeyboardInterrupt
        return trace

    sys._getframe().f_trace_opcodes = True  # Python 3.12.1 looks whether any frame has it when tracing begins
    sys.settrace(trace)
    try:
        do()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


def test_ctrl_c_at_any_instruction_leaves_one_thread_at_most_and_no_lock(monkeypatch):
    def run(clock):
        running.append(clock)
        ended.wait(60)

    def look():
        for clock in clocks:
            taken.append(clock._changed.acquire(blocking=False))

    monkeypatch.setattr(_Clock, "_run", run)
    running, clocks, taken, ended = [], [], [], threading.Event()
    try:
        for number in itertools.count():
            clocks.append(_Clock())
            if not interrupted(lambda: clocks[-1].call_after(0.0, print, print), number):
                break
            clocks[-1].call_after(0.0, print, print)
        assert number > 5
        until(lambda: set(running) == set(clocks))
        time.sleep(0.2)
        assert len(running) == len(clocks)
        looking = threading.Thread(target=look)
        looking.start()
        looking.join()
        assert all(taken)
        assert len(taken) == len(clocks)
    finally:
        ended.set()
