"""Handlers of signals that raise, as that of Ctrl-C does, in the middle of a change: nothing stays half done."""

import _thread
import signal
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.distributed.rpc as rpc

import torchremote as tr
from torchremote import chores, threads
from torchremote.caller.creating import pending_stub
from torchremote.errors import ServedNameError, StaleStubError
from torchremote.locks import new_lock, uninterrupted
from torchremote.owner import modules
from torchremote.owner.running import tables
from torchremote.threads import OneThread

from .. import zoo
from ..caller.test_forked import told_in_a_child
from ..waiting import hosted, until

X = torch.ones(2, 8)


class Interrupt(Exception):
    pass


def interrupt(number, frame):
    raise Interrupt


@pytest.fixture(autouse=True)
def handler():
    before = signal.signal(signal.SIGALRM, interrupt)
    yield
    signal.signal(signal.SIGALRM, before)


def interrupting(function, after=False):
    """Makes a function that does what `function` does, and is interrupted before or after."""

    def run(*args, **kwargs):
        if not after:
            signal.raise_signal(signal.SIGALRM)
        result = function(*args, **kwargs)
        if after:
            signal.raise_signal(signal.SIGALRM)
        return result

    return run


def same_as(module):
    return lambda y: torch.equal(y, module(X, 1.0))


# -- what a process hosts


@pytest.fixture
def served(owner):
    """A module that is served here, and a stub of it."""
    module = zoo.LinearEncoder(seed=1)
    tr.serve(module, zoo.Encoder, "interrupted")
    yield module, tr.connect("caller", zoo.Encoder, "interrupted")
    if "interrupted" in modules.by_name:
        tr.withdraw("interrupted")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("where", [(modules, "_forget_parts"), (tables.OwnerTable, "remove")], ids=str)
def test_withdraw(served, monkeypatch, where, after):
    with monkeypatch.context() as patched:
        patched.setattr(*where, interrupting(getattr(*where), after))
        with pytest.raises(Interrupt):
            tr.withdraw("interrupted")
    with pytest.raises(ServedNameError, match="not served"):
        tr.withdraw("interrupted")
    tr.serve(zoo.LinearEncoder(seed=2), zoo.Encoder, "interrupted", replace=True)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("where", [(modules, "_note_parts"), (tables.OwnerTable, "insert")], ids=str)
def test_serve(owner, monkeypatch, where, after):
    with monkeypatch.context() as patched:
        patched.setattr(*where, interrupting(getattr(*where), after))
        with pytest.raises(Interrupt):
            tr.serve(zoo.LinearEncoder(seed=1), zoo.Encoder, "interrupted")
    assert tr.connect("caller", zoo.Encoder, "interrupted")(X).shape == (2, 8)
    tr.withdraw("interrupted")
    assert "interrupted" not in {module.name for module in tr.stats().modules}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    "where", [(modules, "_note_parts"), (modules, "_forget_parts"), (tables.OwnerTable, "replace")], ids=str
)
def test_replace(served, monkeypatch, where, after):
    _, stub = served
    new = zoo.LinearEncoder(seed=2)
    with monkeypatch.context() as patched:
        patched.setattr(*where, interrupting(getattr(*where), after))
        with pytest.raises(Interrupt):
            tr.serve(new, zoo.Encoder, "interrupted", replace=True)
    assert torch.equal(stub(X), new(X, 1.0))
    assert torch.equal(tr.at_owner(stub).state_dict()["linear.weight"], new.linear.weight)


def test_a_name_that_is_taken_hosts_nothing(served):
    before = {module.number for module in tr.stats().modules}
    with pytest.raises(ServedNameError, match="serves Encoder under that name already"):
        tr.serve(zoo.LinearEncoder(), zoo.Encoder, "interrupted")
    assert {module.number for module in tr.stats().modules} == before


# -- what is created elsewhere


@pytest.mark.parametrize("name", [None, "interrupted"])
@pytest.mark.parametrize(
    "where", [(rpc.api, "_invoke_rpc_python_udf"), (pending_stub, "PendingStub"), (pending_stub, "make_stub")], ids=str
)
@pytest.mark.parametrize("after", [False, True])
def test_create(owner, monkeypatch, where, after, name):
    before = hosted(owner)
    with monkeypatch.context() as patched:
        patched.setattr(*where, interrupting(getattr(*where), after))
        with pytest.raises(Interrupt):
            tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name=name)
    until(lambda: hosted(owner) <= before)
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name=name)  # the name is free
    assert stub(X).shape == (2, 8)
    if name is not None:
        tr.withdraw(name, owner)


def test_create_async(owner, monkeypatch):
    before, where = hosted(owner), (rpc.api, "_invoke_rpc_python_udf")
    with monkeypatch.context() as patched:
        patched.setattr(*where, interrupting(getattr(*where), after=True))
        with pytest.raises(Interrupt):
            tr.create_async(owner, zoo.Encoder, zoo.LinearEncoder, name="interrupted")
    until(lambda: hosted(owner) <= before)


def test_remote_module(owner, monkeypatch):
    before, where = hosted(owner), (rpc.api, "_invoke_rpc_python_udf")
    with monkeypatch.context() as patched:
        patched.setattr(*where, interrupting(getattr(*where), after=True))
        with pytest.raises(Interrupt):
            tr.dropin.remote_module._RemoteModule(
                owner, zoo.LinearEncoder, _module_interface_cls=zoo.Encoder, name="interrupted"
            )
    until(lambda: hosted(owner) <= before)


def test_there_is_one_sweeper(owner, monkeypatch):
    tr.create(owner, zoo.Encoder, zoo.LinearEncoder)

    def running():
        return [frame.f_code for frame in sys._current_frames().values() if frame.f_globals is vars(chores)]

    until(lambda: running() == [chores._run.__code__])
    monkeypatch.setattr(chores, "_thread", OneThread(chores._run, "another"))  # as in a process that has none yet
    with monkeypatch.context() as patched:
        patched.setattr(_thread, "start_new_thread", interrupting(_thread.start_new_thread, after=True))
        with pytest.raises(Interrupt):
            chores.start()
    chores.start()
    until(lambda: running() == [chores._run.__code__] * 2)  # the one of before, and one
    time.sleep(0.2)
    assert len(running()) == 2
    for _ in range(2):
        chores.soon(None)
    until(lambda: not running())  # the next creation starts it
    assert told_in_a_child(has_a_sweeper) == "returned"


@contextmanager
def no_thread():
    """Has no sweeper run, as in a process that was forked, and none start."""

    def fail(*_):
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(chores, "_thread", OneThread(chores._run, "another"))
        patched.setattr(threads, "start_thread", fail)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            yield


def test_where_no_sweeper_starts_nothing_is_hosted():
    puts, opened = [], []
    table = tables.OwnerTable(SimpleNamespace(table=SimpleNamespace(open_page=opened.append)))
    for change in (partial(table.insert, puts.append), partial(table.replace, 1, puts.append)):
        with no_thread():
            change()
    first, second = table.insert(puts.append), table.insert(puts.append)
    assert puts == [first, second]
    assert len(table.retired) == 2


def test_where_no_sweeper_starts_a_module_stays_whole(owner):
    tr.serve(zoo.LinearEncoder(seed=1), zoo.Encoder, "whole")
    with no_thread():
        tr.withdraw("whole")
    stub = tr.connect("caller", zoo.Encoder, "whole")
    assert torch.equal(stub(X), zoo.LinearEncoder.output(1, X))
    tr.withdraw("whole")
    with pytest.raises(StaleStubError):
        stub(X)


def has_a_sweeper():
    done = threading.Event()
    chores.start()
    chores.soon(done.set)
    assert done.wait(10)


# -- changes


def test_a_change_that_has_not_begun_is_not_made(monkeypatch):
    made = []
    monkeypatch.setattr(_thread, "start_new_thread", interrupting(_thread.start_new_thread))
    with pytest.raises(Interrupt):
        uninterrupted(lambda: made.append(1))
    assert not made


def test_a_change_that_has_begun_is_awaited(monkeypatch):
    made, many = [], iter(range(3))

    def change():
        for _ in many:  # Ctrl-C again and again
            signal.raise_signal(signal.SIGALRM)
            time.sleep(0.1)
        made.append(1)

    with pytest.raises(Interrupt):
        uninterrupted(change)
    assert made


def test_a_change_returns_and_raises_what_it_does():
    assert uninterrupted(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        uninterrupted(lambda: 1 / 0)


def test_a_handler_makes_a_change_while_its_thread_has_a_lock():
    lock, made = new_lock(), []

    def change():
        with lock:
            made.append(threading.current_thread())

    signal.signal(signal.SIGALRM, lambda *_: uninterrupted(change))
    with lock:
        signal.raise_signal(signal.SIGALRM)
        assert made == [threading.main_thread()]


def test_a_change_is_made_where_no_thread_starts(monkeypatch):
    def fail(*args):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", fail)
    assert uninterrupted(threading.get_ident) == threading.get_ident()
