"""Ctrl-C in `join` and `spawn`: nothing is left, and the next join succeeds."""

import _thread
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import torchremote as tr
from torchremote import _torch, locks
from torchremote.errors import GroupError
from torchremote.group import connection, listener, processes, spawn
from torchremote.group import join as joining

from ..waiting import until
from . import roles
from .nursery import in_a_group


def interrupted(function):
    """Makes a function that is interrupted after it did what `function` does."""

    def run(*given, **named):
        result = function(*given, **named)
        signal.raise_signal(signal.SIGINT)
        return result

    return run


@in_a_group(name=None)
def test_a_name_is_not_taken_by_an_earlier_connection_of_the_same_process(nursery):
    where = joining._start_hub("main")
    held = nursery.start("ps", where).joined()
    # As where a join was interrupted.
    kept = [connection.say_hello(where, name, 60.0, 1e9) for name in ("main", "other")]
    tr.join("main", where, shared_memory=False)
    assert roles.members() == ["main", "ps"]
    assert roles.add("ps") == 2
    assert kept[0][0].read() is None
    assert kept[1][0].read() is None
    again = nursery.start("main", where)  # another process is refused
    until(lambda: again.said() is not None)
    assert "the name is that of 'main' (process" in again.said()
    tr.leave()
    held.kill()


@in_a_group(name=None)
def test_the_hub_of_a_single_worker_goes_on_when_that_joins_again(nursery):
    where = joining._start_hub("main")
    kept = connection.say_hello(where, "main", 60.0, 1e9)
    tr.join("main", where, shared_memory=False)
    nursery.join("ps")
    assert roles.add("ps") == 2
    del kept


@in_a_group(name=None)
def test_ctrl_c_before_there_is_a_membership_leaves_no_connection(nursery):
    real = joining.Membership.__init__

    def init(*given):
        raise KeyboardInterrupt

    where = joining._start_hub("main")
    before = len(os.listdir("/proc/self/fd"))
    joining.Membership.__init__ = init
    with pytest.raises(KeyboardInterrupt) as kept:
        tr.join("main", where, shared_memory=False)
    assert len(os.listdir("/proc/self/fd")) == before
    joining.Membership.__init__ = real
    assert kept
    tr.join("main", joining._start_hub("main"), shared_memory=False)


@in_a_group(name=None)
def test_ctrl_c_while_the_listening_thread_starts(nursery):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    where, enter = joining._start_hub("main"), threading.Condition.__enter__
    nursery.start("ps", where).joined()
    real = _thread.start_new_thread

    def ctrl_c(condition):
        got = enter(condition)  # where a lock is taken in Python: `Thread.start` waits for an Event
        if threading.current_thread() is threading.main_thread():
            signal.raise_signal(signal.SIGINT)
        return got

    for start in (interrupted(real), real):
        _thread.start_new_thread, threading.Condition.__enter__ = start, ctrl_c
        try:
            tr.join("main", where, shared_memory=False)
        except KeyboardInterrupt:
            assert start is not real
            assert not _torch.rpc_running()
        finally:
            _thread.start_new_thread, threading.Condition.__enter__ = real, enter
    tr.leave()
    tr.join("main", where, shared_memory=False)
    assert roles.add("ps") == 2


@in_a_group()
def test_a_membership_that_cannot_be_left_is_forgotten(nursery):
    membership, where = joining._membership, tr.group_address()
    nursery.join("ps")
    membership._agent.stop()

    def leave(timeout):
        raise KeyboardInterrupt

    membership.leave = leave
    with pytest.raises(KeyboardInterrupt):
        tr.join("main", where, shared_memory=False)
    tr.join("main", where, shared_memory=False)
    assert roles.add("ps") == 2


@in_a_group()
def test_a_connection_that_is_closed_is_at_its_end_for_whoever_listens(nursery):
    hub, _ = connection.say_hello(joining._start_hub("other"), "other", 60.0, 1e9)
    hub.close()
    hub.look_every(1.0)
    assert hub.read() is None


@in_a_group(name=None)
def test_files_are_not_duplicated_where_handlers_of_signals_run(nursery):
    real, by = os.dup, []

    def dup(file):
        by.append(threading.current_thread().name)
        return real(file)

    listener.os.dup = dup
    tr.join("main", shared_memory=False)
    until(lambda: by)
    assert set(by) == {"torchremote-group"}


@in_a_group()
def test_ctrl_c_in_spawn_leaves_no_process_and_no_file(nursery):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    processes, before = [], len(os.listdir("/proc/self/fd"))

    class Popen(subprocess.Popen):
        def __init__(self, *given, **named):
            super().__init__(*given, **named)
            processes.append(self)

    spawn.subprocess.Popen = Popen
    for where, name in ((os, "pipe"), (spawn, "_start"), (spawn, "SpawnedWorker")):
        real = getattr(where, name)
        setattr(where, name, interrupted(real))
        try:
            with pytest.raises(KeyboardInterrupt):
                tr.spawn("ps", shared_memory=False)
        finally:
            setattr(where, name, real)
        assert all(process.returncode == -signal.SIGKILL for process in processes), name
        until(lambda: roles.members() == ["main"])
    del processes[:]
    until(lambda: len(os.listdir("/proc/self/fd")) <= before)
    worker = tr.spawn("ps", shared_memory=False)
    assert worker.poll() is None
    worker.kill()
    worker.wait()


ANSWERS = """
import os, sys, time
sys.stdin.buffer.read()
os.write(int(sys.argv[1]), b'"joined"\\n')
time.sleep(100)
"""


def interrupted_at(number, act):
    """Runs `act`, with Ctrl-C at the line of that number in our files, or in Python's for processes.

    Returns the number of lines that came, and whether it was interrupted.
    """
    seen = 0

    def trace(frame, event, arg):
        nonlocal seen
        if frame.f_code.co_filename not in (spawn.__file__, processes.__file__, locks.__file__, subprocess.__file__):
            return None
        if event == "line":
            seen += 1
            if seen == number:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        act()
    except KeyboardInterrupt:
        return seen, True
    finally:
        sys.settrace(None)
    return seen, False


@in_a_group(timeout=150)
def test_ctrl_c_at_any_line_of_spawn(nursery):
    began, real = [], subprocess.Popen._execute_child

    def execute(process, *given):
        real(process, *given)
        began.append(process.pid)

    subprocess.Popen._execute_child = execute
    spawn._PROGRAM, number, files = ANSWERS, 1, len(os.listdir("/proc/self/fd"))
    workers = []
    while True:
        start = time.monotonic()
        seen, was_interrupted = interrupted_at(number, lambda: workers.append(tr.spawn("ps")))
        assert time.monotonic() - start < 5, number
        if not was_interrupted:
            break
        assert not any(os.path.exists(f"/proc/{pid}") for pid in began), number
        until(lambda: len(os.listdir("/proc/self/fd")) <= files)
        number += 1
    assert seen > 50  # else it was not traced
    workers[0].kill()
    workers[0].wait(5)


@in_a_group(timeout=150)
def test_ctrl_c_at_any_line_of_what_asks_a_process(nursery):
    spawn._PROGRAM = ANSWERS
    for act in (
        lambda worker: worker.poll(),
        lambda worker: worker.kill(),
        lambda worker: worker.terminate(),
        lambda worker: (worker.kill(), worker.wait()),
        lambda worker: (worker.kill(), worker.wait(5)),
    ):
        number, was_interrupted = 1, True
        while was_interrupted:
            worker = tr.spawn("ps")
            _, was_interrupted = interrupted_at(number, lambda worker=worker, act=act: act(worker))
            worker.kill()
            start = time.monotonic()
            assert worker.wait(5) == worker.poll() != 0
            assert time.monotonic() - start < 1, number
            number += 3


@in_a_group()
def test_a_process_that_reads_nothing_is_not_waited_for_without_limit(nursery):
    spawn._PROGRAM, spawn._STARTING, sys.path[:] = "import time; time.sleep(100)", 0.5, [*sys.path, "x" * 500_000]
    with pytest.raises(GroupError, match="spawn 'ps': the process does not answer.* a longer timeout"):
        tr.spawn("ps", timeout=0.5)
