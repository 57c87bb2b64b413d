"""Python on the owner reads, writes, moves and hosts a module while its calls run in turn."""

import threading

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote import _torch
from torchremote.owner import module_state, served, stats

from ..group import play
from .gathering import until

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
X = torch.zeros(1)


@tr.remote_scriptable
class Counting:
    @tr.batched(0)
    def forward(self, x: Tensor) -> Tensor: ...
    def count(self) -> Tensor: ...
    def churn(self, rounds: int) -> int: ...


class Counter(nn.Module):
    """Counts rows. It assigns its buffers with every call."""

    def __init__(self, size: int = 1):
        super().__init__()
        self.register_buffer("rows", torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        self.rows = self.rows + x.size(0)
        return x

    def count(self) -> Tensor:
        return self.rows[:1]

    def churn(self, rounds: int) -> int:
        for _ in range(rounds):
            self.rows = self.rows.detach()
        return rounds


def moves(store):
    """Moves the module while calls come: when it is copied, they are queued, and the old one is hosted still."""
    copy_on, pending = module_state._copy_on, []

    def copy_while_calls_come(device, module):
        copied = copy_on(device, module)
        pending.extend(stub.forward_async(X) for _ in range(50))
        until(lambda: _torch.running_calls() > 50)
        return copied

    module_state.check_device = torch.device  # "cpu:0" counts as another device than "cpu"
    module_state._copy_on = copy_while_calls_come
    for gather in (None, 8):
        tr.serve(Counter(), Counting, "counter", gather=gather, replace=True)
        stub = tr.connect("moves", Counting, "counter")
        first = served.served_module("counter")
        for device in ("cpu:0", "cpu"):
            tr.at_owner(stub).to(device)
            torch.futures.wait_all(pending)
        assert served.served_module("counter") is not first
        assert stub.count() == len(pending), (gather, stub.count())
        pending.clear()
    print("said: all")


def loads(store):
    """Loads a number that is far above all counts, and reads it again, beside calls that count."""
    tr.serve(Counter(1_000_000), Counting, "counter")
    stub = tr.connect("loads", Counting, "counter")
    end = threading.Event()

    def call():
        while not end.is_set():
            torch.futures.wait_all([stub.forward_async(X) for _ in range(3)])

    calling = threading.Thread(target=call)
    calling.start()
    try:
        for number in range(100_000, 3_100_000, 100_000):
            tr.at_owner(stub).load_state_dict({"rows": torch.full((1_000_000,), float(number))})
            assert stub.count() >= number
            read = tr.at_owner(stub).state_dict()["rows"]
            assert (read == read[0]).all()
    finally:
        end.set()
        calling.join()
    print("said: all")


def asks(store):
    """Asks what is hosted while the module assigns its buffers."""
    tr.serve(Counter(), Counting, "counter")
    beside_churning("asks", lambda: stats.stats_here("asks"))
    assert [one.bytes for one in stats.stats_here("asks").modules] == [4]


def serves(store):
    """Serves the module under a second name, in its own place, and as a part of another one."""
    tr.serve(Counter(), Counting, "counter")
    counter = served.served_module("counter")

    def serve():
        for name in ("counter", "again"):
            tr.serve(counter, Counting, name, replace=True)

    beside_churning("serves", serve)


def beside_churning(owner, function):
    """Calls a function again and again, until the module has assigned its buffer very often."""
    stub = tr.connect(owner, Counting, "counter")
    for _ in range(30):
        pending = [stub.churn_async(20_000) for _ in range(3)]
        while not all(future.done() for future in pending):
            function()
        torch.futures.wait_all(pending)
    print("said: all")


@pytest.mark.parametrize("role", [moves, loads, asks, serves])
def test_nothing_is_lost_and_nothing_crashes(tmp_path, role):
    assert "said: all" in play(tmp_path, role)[0]
