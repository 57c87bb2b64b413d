"""The locks of the process: a handler of a signal may take one that its thread has, and so may a forked child."""

import signal
import threading

import pytest
import torch
import torch.distributed.rpc as rpc

from torchremote import _torch
from torchremote.caller.calls.following import NamedStubMethods
from torchremote.caller.replicas.as_module import replicas_class
from torchremote.caller.replicas.team import Team
from torchremote.caller.stubs.stub import stub_class
from torchremote.jit import compile_interface
from torchremote.jit.script.cache import COMPILING
from torchremote.link.route import Route
from torchremote.locks import new_lock

from . import zoo
from .caller.test_forked import told_in_a_child


def test_whoever_has_a_lock_may_take_it_again():
    lock = new_lock()
    with lock:
        assert lock.acquire(blocking=False)
        lock.release()


def test_it_is_free_in_a_child_whoever_has_it_here():
    lock, taken, done = new_lock(), threading.Event(), threading.Event()

    def hold():
        with lock:
            taken.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()

    def take():
        assert lock.acquire(blocking=False)

    assert told_in_a_child(take) == "returned"
    done.set()
    thread.join()


class New:
    def forward(self, x: torch.Tensor) -> int: ...


def test_a_child_compiles_while_a_thread_here_does():
    with COMPILING:
        assert told_in_a_child(lambda: compile_in_thread(New)) == "returned"


def compile_in_thread(interface):
    """Compiles in another thread, which does not have the lock of this one."""
    thread = threading.Thread(target=compile_interface, args=(interface,), daemon=True)
    thread.start()
    thread.join(5)
    if thread.is_alive():
        raise TimeoutError


class Newer:
    def forward(self, x: torch.Tensor) -> int: ...


@pytest.mark.parametrize("class_of", [stub_class, replicas_class])
def test_threads_that_make_the_first_stubs_of_an_interface_make_one_class(class_of, monkeypatch):
    compiled, made, send_as = compile_interface(Newer), [], _torch.send_as
    makes, other_comes = threading.Event(), threading.Event()

    def send(cls, reduce):
        if not makes.is_set():
            makes.set()
            other_comes.wait()
        send_as(cls, reduce)

    monkeypatch.setattr(_torch, "send_as", send)
    one = threading.Thread(target=lambda: made.append(class_of(compiled)))
    one.start()
    makes.wait()
    other = threading.Thread(target=lambda: (other_comes.set(), made.append(class_of(compiled))))
    other.start()
    for thread in (one, other):
        thread.join()
    assert made[0] is made[1] is class_of(compiled)


def test_threads_that_tell_rpcs_pickler_of_classes_lose_none(monkeypatch):
    class Pickler:
        reducers = {}

        @property
        def _class_reducer_dict(self):
            found = self.reducers
            if not threads:
                threads.append(threading.Thread(target=_torch.send_as, args=(str, repr)))
                threads[0].start()
                threads[0].join(0.5)  # it may have to wait
            return found

        @_class_reducer_dict.setter
        def _class_reducer_dict(self, reducers):
            self.reducers = reducers

    threads = []
    monkeypatch.setattr(rpc.api, "_internal_rpc_pickler", Pickler())
    _torch.send_as(int, repr)
    threads[0].join()
    assert rpc.api._internal_rpc_pickler.reducers == {int: repr, str: repr}


def methods_of_a_stub():
    route = Route("w", "name", "cpu", 1, (), None, None, False, True, True)
    scripted = compile_interface(zoo.Encoder).stub
    return NamedStubMethods(scripted, compile_interface(zoo.Encoder), (), route)


def take_a_replica():
    replicas.take().give_back()


replicas = Team(compile_interface(zoo.Encoder), "name", None, ["w"])
replicas._replicas[0].methods = {"forward": None}


@pytest.mark.parametrize("do", [methods_of_a_stub, take_a_replica])
def test_a_handler_does_what_it_interrupts(do):
    """Most of these signals come while the lock is taken: that is what this thread does all the time."""
    handled = 0

    def handle(number, frame):
        nonlocal handled
        handled += 1
        do()

    before = signal.signal(signal.SIGALRM, handle)
    try:
        for _ in range(200):
            seen = handled
            signal.setitimer(signal.ITIMER_REAL, 0.0002)
            while handled == seen:
                do()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert handled >= 200
