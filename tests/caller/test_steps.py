"""What waits without a thread, and the thread that keeps the time for all of it."""

import threading

import pytest

from torchremote.caller import steps


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
