"""What waits without a thread, and the thread that keeps the time for all of it."""

import threading

import pytest

from torchremote.caller.messages import steps


def test_what_no_thread_could_be_started_for_is_never_called(monkeypatch):
    clock, real = steps._Clock(), threading.Thread.start
    called, done = [], threading.Event()

    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="can't start"):
        clock.call_after(0.0, lambda: called.append("refused"))
    monkeypatch.setattr(threading.Thread, "start", real)
    clock.call_after(0.0, lambda: called.append("taken"))
    clock.call_after(0.01, done.set)
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
