"""Strands: with the native part, each module that runs its calls in turn has a queue of its own.

All tests of calls in turn, and of gathering, run with strands, too; here is what only they do.
"""

import gc
import io
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

from ..group import play
from ..owner.gathering import Scaler, ScalerModule, gate, shut_gate, until_entered
from ..owner.test_turns import Hidden, Recurrent, in_flight


@tr.remote_scriptable
class Counter:
    def add(self, n: int) -> int: ...
    def fork(self, n: int) -> List[int]: ...


def join(module, strand):
    return native.join_strand(_torch.object_of(module), strand)


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
    first.take()
    taken = threading.Event()

    def take():
        second.take()
        taken.set()
        second.let_go()

    thread = threading.Thread(target=take)
    thread.start()
    was_free = taken.wait(0.2)
    first.let_go()
    thread.join(20)
    assert taken.is_set()
    return not was_free


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
    strand.take()
    strand.let_go()


def test_a_module_has_one_strand_as_long_as_something_has_it():
    module, other = torch.jit.script(Part()), torch.jit.script(Part())
    strand = join(module, None)
    assert are_one(strand, join(module, None))
    assert not are_one(strand, join(other, None))
    # What comes in a module's place has its strand.
    third = torch.jit.script(Part())
    assert are_one(strand, join(third, strand))
    assert are_one(strand, join(third, None))
