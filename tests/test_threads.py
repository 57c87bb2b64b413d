"""Threads of ours that are inside torch when Python ends, and their start."""

import _thread
import signal
import subprocess
import sys
import threading

import pytest

from torchremote import threads

from .caller.test_forked import told_in_a_child
from .waiting import until

# A callback of a Future runs on one of our threads, inside a function of C++, when the main thread ends. It goes on
# only when that is so.
ENDING = """
import atexit, threading, time, torch
from torchremote import chores
from torchremote.caller.messages import clock, steps
from torchremote.caller.replicas import team
begun, ends = threading.Event(), threading.Event()

def slowly(done):
    begun.set()
    ends.wait()
    time.sleep(0.3)
    print("has ended", flush=True)

future = torch.futures.Future()
future.add_done_callback(slowly)

def give(value=None):
    future.set_result(value)

def returns():
    yield 0.0

class Team:
    def _ask_again(self, replica):
        give()
        return True

{start}
begun.wait()
atexit.register(ends.set)
"""
STARTS = {
    "again": "clock.call_soon(give, print)",
    "result": "steps.run_later(returns(), give, True)",
    "replica": "of = Team(); threading.Thread(target=team._bring_back, args=(lambda: of, None), daemon=True).start()",
    "sweeper": "chores.start(); chores.soon(give)",
}


def ending(program):
    return subprocess.run([sys.executable, "-c", program], timeout=60, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("start", STARTS)
def test_python_ends_while_a_thread_of_ours_is_inside_torch(start):
    for _ in range(3):
        ended = ending(ENDING.replace("{start}", STARTS[start]))
        assert (ended.returncode, ended.stdout) == (0, "has ended\n"), ended.stderr


def test_the_end_of_python_does_not_wait_for_ever():
    start = (
        "from torchremote import threads; threads.LONGEST_WORK = clock.LONGEST_WORK = 0.2; clock.call_soon(give, print)"
    )
    ended = ending(ENDING.replace("{start}", start).replace("ends.wait()", "time.sleep(1000)"))
    assert ended.returncode == 0, ended.stderr


def test_no_work_begins_while_python_ends(monkeypatch):
    monkeypatch.setattr(threads, "_work", threads._Work())
    done = []

    def work():
        with threads.at_work():
            done.append(1)

    threads.start_thread(work, "first")
    until(lambda: done)
    threads._work.end(0.0)
    with pytest.raises(RuntimeError, match="this process ends"):
        threads.start_thread(work, "second")
    threading.Thread(target=work, daemon=True).start()
    assert not threads._work.running
    assert told_in_a_child(work) == "returned"  # the child does not end
    assert done == [1]


def test_a_child_that_is_forked_at_work_waits_for_nobody():
    def ask():
        assert not threads._work.running

    told = []

    def work():
        with threads.at_work():
            told.append(told_in_a_child(ask))

    threads.start_thread(work, "forking")
    until(lambda: told)
    assert told == ["returned"]


# -- starting


def test_a_thread_whose_start_is_interrupted_runs(monkeypatch):
    def interrupt(number, frame):
        raise InterruptedError

    def started(*given, real=_thread.start_new_thread):
        real(*given)
        signal.raise_signal(signal.SIGALRM)

    begun, before = threading.Event(), signal.signal(signal.SIGALRM, interrupt)
    one = threads.OneThread(begun.set, "one")
    try:
        with monkeypatch.context() as patched:
            patched.setattr(_thread, "start_new_thread", started)
            with pytest.raises(InterruptedError):
                one.start()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert begun.wait(10)


def test_a_thread_that_has_not_begun_when_it_is_ended_does_nothing(monkeypatch):
    starts, ran = [], []
    one = threads.OneThread(lambda: ran.append(1), "one")
    with monkeypatch.context() as patched:
        patched.setattr(_thread, "start_new_thread", lambda start, given: starts.append(start))
        one.start()
    one.end(0.0)
    for start in starts:
        start()
    until(lambda: not one.is_running)
    assert not ran


def test_a_thread_may_end_itself():
    ended = []
    one = threads.OneThread(lambda: one.end(60) or ended.append(1), "one")
    one.start()
    until(lambda: ended)
