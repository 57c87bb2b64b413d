"""Strands: with the native part, each module that runs its calls in turn has a queue of its own.

All tests of calls in turn, and of gathering, run with strands, too; here is what only they do.
"""

import contextlib
import gc
import io
import os
import signal
import subprocess
import sys
import threading
import weakref
from typing import List

import pytest
import torch
import torch.distributed.rpc as rpc
from torch import nn

import torchremote as tr
from torchremote import _torch, native
from torchremote.errors import CreationError
from torchremote.link.route import route_of

from ..group import play
from ..owner.gathering import (
    Scaler,
    ScalerModule,
    gate,
    let_strand_go,
    shut_gate,
    take_strand,
    until_entered,
    until_queued,
)
from ..owner.test_turns import Hidden, Recurrent, in_flight


@tr.remote_scriptable
class Counter:
    def add(self, n: int) -> int: ...
    def fork(self, n: int) -> List[int]: ...


def join(module, strand):
    return native.join_strand(_torch.object_of(module), strand)


def take(strand):
    """Returns a turn that has come."""
    turn = strand.turn()
    assert turn.comes(20)
    return turn


class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.sum = 0

    def forward(self, n: int) -> int:
        before = self.sum
        torch.rand(50).sum()  # time for another call to come between
        self.sum = before + n
        return self.sum


class Counting(nn.Module):
    def __init__(self, part):
        super().__init__()
        self.part = part

    def add(self, n: int) -> int:
        return self.part(n)

    def fork(self, n: int) -> List[int]:
        pending = [torch.jit.fork(self.part, 1) for _ in range(n)]
        return [one.wait() for one in pending]


def test_no_module_waits_for_the_turn_of_another(owner):
    held = tr.create(owner, Scaler, ScalerModule, in_turn=True)
    other = tr.create(owner, Recurrent, Hidden)
    rpc.rpc_sync(owner, shut_gate)
    holding = held.hold_async()
    rpc.rpc_sync(owner, until_entered)
    try:
        assert in_flight(other, torch.ones(4), 200) == 200
        assert not holding.done()
    finally:
        rpc.rpc_sync(owner, open_gate)
    assert holding.wait() > 0


def open_gate():
    gate.fill_(False)


@contextlib.contextmanager
def queued(stubs, others=0):
    """Has calls of modules wait in their strands, one each, and run in threads of the strands then.

    `others`: so many other calls are not answered, either.
    """
    handles = [route_of(stub).handle for stub in stubs]
    for handle in handles:
        rpc.rpc_sync("owner", take_strand, (handle,))
    yield
    rpc.rpc_sync("owner", until_queued, (len(stubs) + others,))
    for handle in handles:
        rpc.rpc_sync("owner", let_strand_go, (handle,))


def test_slow_modules_do_not_stop_the_queued_calls_of_others(owner):
    more = torch.get_num_interop_threads() + 2  # than there are threads at first
    slow = [tr.create(owner, Scaler, ScalerModule, in_turn=True) for _ in range(more)]
    quick = tr.with_timeout(tr.create(owner, Recurrent, Hidden), 20)
    rpc.rpc_sync(owner, shut_gate)
    try:
        with queued(slow):
            holding = [stub.hold_async() for stub in slow]
        for calls in range(1, 4):
            with queued([quick], others=more):
                pending = quick.forward_async(torch.ones(4))
            assert pending.wait()[0] == calls
        assert not any(one.done() for one in holding)
    finally:
        rpc.rpc_sync(owner, open_gate)
    torch.futures.wait_all(holding)


def unprepared(store):
    torch.set_num_interop_threads(2)
    tr.rpc_options(in_turn=True)
    tr.serve(ScalerModule(), Scaler, "scaler", gather=64)
    tr.serve(Hidden(), Recurrent, "hidden")
    print("interop threads:", torch.get_num_interop_threads())


def test_no_process_has_to_be_prepared(tmp_path):
    assert "interop threads: 2" in play(tmp_path, unprepared)[0]


def serve_two_of_one_part():
    part = torch.jit.script(Part())
    for name in ("one", "two"):
        tr.serve(Counting(part), Counter, name)


def test_modules_that_share_a_part_take_turns(owner):
    rpc.rpc_sync(owner, serve_two_of_one_part)
    stubs = [tr.connect(owner, Counter, name) for name in ("one", "two")]
    pending = [stub.add_async(1) for _ in range(1500) for stub in stubs]
    assert sorted(one.wait() for one in pending) == list(range(1, 3001))
    for name in ("one", "two"):
        tr.withdraw(name, owner)


def test_what_a_call_forks_runs_in_turn(owner):
    stub = tr.create(owner, Counter, Counting, (Part(),))
    pending = [stub.fork_async(20) for _ in range(20)]
    assert sorted(number for one in pending for number in one.wait()) == list(range(1, 401))


def test_parts_of_different_strands_are_refused():
    parts = [torch.jit.script(Part()) for _ in range(2)]
    first = join(parts[0], None)
    second = join(parts[1], None)
    both = Two(*parts)
    with pytest.raises(CreationError, match=r"shares parts with modules that are hosted already.*host it before them"):
        tr.serve(both, Counter, "both")
    del second
    assert are_one(first, join(torch.jit.script(Two(*parts)), None))


class Two(nn.Module):
    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = first, second

    @torch.jit.export
    def add(self, n: int) -> int:
        return self.first(n) + self.second(n)

    @torch.jit.export
    def fork(self, n: int) -> List[int]:
        return [self.first(n)]


def are_one(first, second):
    """Says whether nobody can have the second strand while somebody has the first."""
    held = take(first)
    taken = threading.Event()

    def take_second():
        take(second).let_go()
        taken.set()

    thread = threading.Thread(target=take_second)
    thread.start()
    was_free = taken.wait(0.2)
    held.let_go()
    thread.join(20)
    assert taken.is_set()
    return not was_free


def test_a_turn_that_is_dropped_is_given_back():
    strand = join(torch.jit.script(Part()), None)
    turn = take(strand)
    waiting = strand.turn()
    assert not waiting.comes(0.05)
    del waiting  # which keeps no place in the queue
    turn.let_go()
    turn = take(strand)
    del turn
    take(strand).let_go()


@tr.remote_scriptable
class Holder:
    def hold(self) -> int: ...


class Holding(ScalerModule):
    hold = torch.jit.export(ScalerModule.hold)


def interrupted(store):
    module = torch.jit.script(Holding())
    tr.serve(module, Holder, "holder", in_turn=True)
    stub = tr.connect("interrupted", Holder, "holder")
    shut_gate()
    holding = stub.hold_async()
    until_entered()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        tr.serve(module, Holder, "again")  # waits for the turn
    assert not holding.done()
    open_gate()
    assert holding.wait() > 0
    assert stub.hold_async().wait() == 0
    tr.serve(module, Holder, "again")


def test_ctrl_c_ends_the_wait_for_a_turn_and_calls_go_on(tmp_path):
    play(tmp_path, interrupted)


FORKING = """
import os, sys, torch, torchremote
from torchremote import _torch, native
strand = native.join_strand(_torch.object_of(torch.jit.script(torch.nn.Linear(2, 2))), None)
def take():
    turn = strand.turn()
    assert turn.comes(5)
    return turn
take().let_go()  # a thread has it
held = take()
child = os.fork()
if child == 0:
    take().let_go()
    take().let_go()
    sys.exit()
assert not strand.turn().comes(0.05)
held.let_go()
take().let_go()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_process_does_not_wait_for_turns_of_its_parent():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKING], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_what_is_in_a_module_goes_with_it():
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), file)
    file.seek(0)
    linear = torch.jit.load(file)  # nobody else knows its tensors
    alive = weakref.ref(linear.weight)
    strand = join(linear, None)
    del linear
    gc.collect()
    native.forget_strands()
    assert alive() is None
    take(strand).let_go()


def test_a_module_has_one_strand_as_long_as_something_has_it():
    module, other = torch.jit.script(Part()), torch.jit.script(Part())
    strand = join(module, None)
    assert are_one(strand, join(module, None))
    assert not are_one(strand, join(other, None))
    # What comes in a module's place has its strand.
    third = torch.jit.script(Part())
    assert are_one(strand, join(third, strand))
    assert are_one(strand, join(third, None))
