"""A child that was forked while RPC was running says so, whatever it asks for, and does not wait."""

import asyncio
import copy
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import weakref

import pytest
import torch
import torch.distributed.rpc as rpc

import torchremote as tr
from torchremote import _torch
from torchremote._torch import os_fork
from torchremote.caller.calls import batches
from torchremote.caller.messages.answer import Answer
from torchremote.dropin.remote_module import _RemoteModule
from torchremote.errors import GroupError, NotInitializedError
from torchremote.link.failures import FORKED
from torchremote.link.route import route_of

from .. import zoo
from ..group import play
from ..waiting import hosted, until

X = torch.ones(1, 8)


def told_in_a_child(ask):
    """Returns what `ask` raises in a forked child, its name and text, or "returned"; empty after ten seconds."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            ask()
            os.write(write, b"returned")
        except BaseException as error:
            os.write(write, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    end = threading.Timer(10, os.kill, (child, signal.SIGKILL))
    end.start()
    os.close(write)
    os.waitpid(child, 0)
    end.cancel()
    with os.fdopen(read) as said:
        return said.read()


class Asking(torch.nn.Module):
    stub: zoo.Encoder

    def __init__(self, stub):
        super().__init__()
        self.stub = stub

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.stub(x)


async def until_done(answer):
    await answer


def forking(store):
    stub = tr.create("forking", zoo.Encoder, zoo.LinearEncoder, name="forked")
    remote = tr.RemoteModule("forking", torch.nn.Linear, (8, 1))
    creation = tr.create_async("forking", zoo.Encoder, zoo.LinearEncoder)
    until(creation.done)
    stub(X)
    for ask in (
        lambda: stub(X),
        creation.wait,
        lambda: stub.forward_async(X),
        lambda: stub.forward_many([(X,)]),
        lambda: tr.at_owner(stub).state_dict(),
        lambda: tr.create("forking", zoo.Encoder, zoo.LinearEncoder),
        lambda: tr.create_many(["forking"], zoo.Encoder, zoo.LinearEncoder),
        lambda: tr.connect("forking", zoo.Encoder, "forked"),
        lambda: tr.stats("forking"),
        lambda: tr.RemoteModule("forking", torch.nn.Linear, (1, 1)),
        lambda: remote(X),
        Answer().wait,
        lambda: asyncio.run(until_done(Answer())),
        lambda: tr.spawn("child"),
        lambda: tr.group_address(),
        lambda: tr.leave(),
    ):
        told = told_in_a_child(ask)
        assert told.startswith(NotInitializedError.__name__), told
        assert FORKED in told
    assert told_in_a_child(lambda: tr.join("child")) == f"{GroupError.__name__}: join 'child': {FORKED}"
    model = torch.jit.script(Asking(stub))
    told = told_in_a_child(lambda: model(X))
    assert told.startswith("RuntimeError"), told  # torch's own, from TorchScript
    assert "RPC agent is not set" in told
    assert stub(X).shape == (1, 8)  # the parent goes on


def test_a_forked_child_says_that_it_has_no_rpc(tmp_path):
    play(tmp_path, forking)


ENDING = """
import os, signal, sys, torch.distributed.rpc as rpc, torchremote as tr
rpc.init_rpc("alone", rank=0, world_size=1, rpc_backend_options=tr.rpc_options(init_method=f"file://{sys.argv[1]}"))
child = os.fork()
if child:
    ended = os.waitpid(child, 0)[1]
    rpc.shutdown()
    sys.exit(os.waitstatus_to_exitcode(ended))
signal.alarm(30)
"""


def test_a_forked_child_ends(tmp_path):
    """torch would wait for threads of the parent's as it destroys the agent."""
    command = [sys.executable, "-W", "ignore", "-c", ENDING, str(tmp_path / "store")]
    subprocess.run(command, check=True, timeout=60)


def test_a_process_may_be_forked_before_rpc_runs():
    """As the workers of these tests are; a child asks for what needs no worker."""
    with pytest.raises(tr.TorchRemoteError):
        tr.create(5, zoo.Encoder, zoo.LinearEncoder)
    assert told_in_a_child(lambda: tr.stats()) == "returned"


def test_forked_children_number_their_batches_differently():
    """The numbers say which batch failed, on an owner that both call."""

    def tell():
        raise ValueError(next(batches._numbers))

    told = {told_in_a_child(tell) for _ in range(2)}
    assert len(told) == 2
    assert all(one.startswith("ValueError: ") for one in told)


# -- what holds an RRef of another worker: torch may hold the locks for ever that its end would take in a child


def create():
    return tr.create("lending", zoo.Encoder, zoo.LinearEncoder)


def waited(pending):
    pending.wait()
    return pending


def with_interface():
    return _RemoteModule("lending", zoo.LinearEncoder, _module_interface_cls=zoo.Encoder)


def stays_in_a_child(held, reference):
    """Checks that a part of what is in the list `held` outlives it in a forked child, and in a child of that."""

    def drop():
        held.clear()
        gc.collect()
        assert reference() is not None

    def drop_there():
        assert told_in_a_child(drop) == "returned"

    for ask in (drop, drop_there):
        assert told_in_a_child(ask) == "returned"


def lending(store):
    """Is the owner, and ends after its callers."""


def dropping(store):
    before = hosted("lending")
    for make, holder in (
        (create, lambda stub: stub._c),
        (lambda: tr.with_timeout(create(), 5), lambda stub: stub._c),
        (lambda: copy.copy(create()), lambda stub: stub._c),
        (lambda: create().forward, lambda method: method.__self__._c),
        (lambda: tr.create_many(["lending"], zoo.Encoder, zoo.LinearEncoder), lambda stubs: stubs[0]._c),
        (lambda: waited(tr.create_async("lending", zoo.Encoder, zoo.LinearEncoder)), lambda made: made.wait()._c),
        (lambda: rpc.rpc_sync("lending", create), lambda received: received._c),
        (lambda: rpc.rpc_sync("lending", torch.jit.script, (Asking(create()),)), lambda model: model.stub._c),
        (lambda: torch.jit.script(Asking(create())), lambda model: model.stub._c),
        (with_interface, lambda module: module._c),
        (lambda: tr.RemoteModule("lending", torch.nn.Linear, (8, 1)), lambda module: module.module_rref),
        (lambda: create().forward_remote(X), lambda result: result),
        (lambda: tr.at_owner(create()).module_rref(), lambda module: module),
        (lambda: tr.at_owner(create()).parameters(), lambda parameters: parameters[0]),
    ):
        held = [make()]
        reference = weakref.ref(holder(held[0]))
        stays_in_a_child(held, reference)
        held.clear()
        gc.collect()
        assert reference() is None  # here, it ends as ever
    until(lambda: hosted("lending") <= before)


def test_a_forked_child_ends_no_reference(tmp_path):
    play(tmp_path, dropping, lending)


def keeping_in_a_thread(store):
    kept, references, ready, done = threading.local(), [], threading.Event(), threading.Event()

    def keep():
        kept.stub = create()
        references.append(weakref.ref(kept.stub._c))
        ready.set()
        done.wait()

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    ready.wait()
    stays_in_a_child([], references[0])  # Python drops it in the child before it calls anybody
    done.set()
    thread.join()
    assert references[0]() is None


def test_a_forked_child_ends_no_reference_of_other_threads(tmp_path):
    play(tmp_path, keeping_in_a_thread, lending)


def dropping_others(store):
    named = tr.create("lending", zoo.Encoder, zoo.LinearEncoder, name="named")
    connected = tr.connect("lending", zoo.Encoder, "named")
    assert route_of(named).lease is route_of(connected).lease is None  # so they hold no reference
    replicas = tr.connect(["lending"], zoo.Encoder, "named")
    pending = tr.create_async("lending", zoo.Encoder, zoo.LinearEncoder)
    held = [named, connected, replicas, pending]
    assert told_in_a_child(held.clear) == "returned"
    for stub in (named, connected, replicas, pending.wait()):
        assert stub(X).shape == (1, 8)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]


def test_a_forked_child_may_drop_what_holds_no_reference(tmp_path):
    play(tmp_path, dropping_others, lending, python=sys.executable)  # what the tests fork may have no children


def test_holders_end_as_ever_in_a_process_that_forks():
    class Holder:
        __eq__ = __hash__ = None

        def __len__(self):
            return 0

    held = [Holder(), Holder()]
    references = [weakref.ref(holder) for holder in held]
    before = len(os_fork._holders)
    for holder in (*held, held[0]):
        _torch.keep_in_forks(holder)
    del holder
    for reference in references:
        stays_in_a_child(held, reference)
    held.clear()
    assert [reference() for reference in references] == [None, None]
    assert len(os_fork._holders) == before
    assert os_fork._forking == []


INTERRUPTED = """
import random, signal
from torchremote._torch import os_fork

class Holder:
    pass

signal.signal(signal.SIGALRM, signal.default_int_handler)
interrupted = 0
while interrupted < 1000:
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 5e-5))
            while True:
                os_fork.keep_in_forks(Holder())
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        interrupted += 1
assert not os_fork._holders
"""


def test_ctrl_c_is_not_lost_where_a_holder_ends():
    subprocess.run([sys.executable, "-W", "ignore", "-c", INTERRUPTED], check=True, timeout=30)


def forked_by_a_handler(store):
    """The pipe of signals is that of an event loop, say, and the child of the handler waits for the parent's answer."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    children, parent = [], os.getpid()
    signal.signal(signal.SIGUSR1, lambda *_: children.append(os.fork()))
    stub = tr.create("forked_by_a_handler", zoo.Sleeper, zoo.SlowLoop)
    stub(X, 1)
    threading.Timer(0.1, os.kill, (parent, signal.SIGUSR1)).start()
    try:
        told = "returned" if stub(X, 300_000).shape == X.shape else "wrong"
    except BaseException as error:
        told = f"{type(error).__name__}: {error}"
    if os.getpid() != parent:
        os._exit(0 if told.startswith("NotInitializedError") and FORKED in told else 1)
    assert told == "returned"
    assert os.waitpid(children[0], 0)[1] == 0
    signal.set_wakeup_fd(-1)
    os.close(read)


def test_a_child_that_a_handler_forks_during_a_call_says_so(tmp_path):
    play(tmp_path, forked_by_a_handler)
