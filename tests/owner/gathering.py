"""A module whose calls are gathered, and what has calls come while its owner is busy."""

import time
from contextlib import contextmanager
from typing import Tuple

import torch
import torch.distributed.rpc as rpc
from torch import Tensor, nn

import torchremote as tr
from torchremote import native
from torchremote.link.route import route_of
from torchremote.owner import modules


@tr.remote_scriptable
class Scaler:
    @tr.batched(0)
    def forward(self, x: Tensor, scale: float = 1.0) -> Tuple[Tensor, Tensor]: ...
    @tr.batched(-1)
    def add(self, x: Tensor, y: Tensor, name: str) -> Tensor: ...
    def hold(self) -> int: ...


class ScalerModule(nn.Module):
    """The second result of `forward` has, for each row, how many rows the call had that the module saw."""

    def __init__(self, size: int = 3):
        super().__init__()
        self.linear = nn.Linear(size, size, dtype=torch.float64)
        nn.init.constant_(self.linear.weight, 2.0)
        nn.init.constant_(self.linear.bias, 1.0)
        self.requires_grad_(False)
        self.shut, self.entered = gate, entered

    def forward(self, x: Tensor, scale: float) -> Tuple[Tensor, Tensor]:
        return self.linear(x) * scale, torch.full([x.size(0)], x.size(0))

    def add(self, x: Tensor, y: Tensor, name: str) -> Tensor:
        return x + y + len(name)

    def hold(self) -> int:
        self.entered.fill_(True)
        rounds = 0
        while bool(self.shut):
            rounds += 1
        return rounds


# Of the process. A call of `hold` keeps the thread that gathers, until the gate is opened.
gate, entered = torch.tensor(False), torch.tensor(False)


def shut_gate():
    gate.fill_(True)
    entered.fill_(False)


def until_entered():
    until(lambda: bool(entered))


def until(happened):
    end = time.monotonic() + 20
    while not happened() and time.monotonic() < end:
        time.sleep(0.002)


def open_gate(calls):
    until_queued(calls)
    gate.fill_(False)


def until_queued(calls):
    """Waits until so many calls, that of `hold` included, are not answered, and all are queued."""
    agent = rpc.api._get_current_rpc_agent()

    def are_queued():
        has = {name.rpartition(".")[2]: int(number) for name, number in agent.get_metrics().items() if number.isdigit()}
        # Beside this call, no thread of RPC is at work, but for the one that runs `hold` where the module has a strand.
        at_work = 2 if native.available() else 1
        return has["server_active_calls"] > calls and has["num_idle_threads"] >= has["thread_pool_size"] - at_work

    for _ in range(2):  # between two looks, what had just come begins
        until(are_queued)
        time.sleep(0.02)


@contextmanager
def held(stub, calls, other=None):
    """Keeps the owner busy until so many calls have come, all of which are made inside.

    `other`: whose calls these are, if not the stub's. With a strand of its own, its module would not be busy.
    """
    rpc.rpc_sync("owner", shut_gate)
    holding = stub.hold_async()
    rpc.rpc_sync("owner", until_entered)
    if other is not None:
        rpc.rpc_sync("owner", take_strand, (route_of(other).handle,))
    try:
        yield
    finally:
        rpc.rpc_sync("owner", open_gate, (calls + 1,))
        if other is not None:
            rpc.rpc_sync("owner", let_strand_go, (route_of(other).handle,))
    holding.wait()


_turns = {}


def take_strand(handle):
    strand = modules.entry_at(handle)[0].hosting.strand
    if strand is not None:
        _turns[handle] = turn = strand.turn()
        assert turn.comes(20)


def let_strand_go(handle):
    if handle in _turns:
        _turns.pop(handle).let_go()


def rows_seen(stub, calls):
    """Makes calls while the owner is busy; of each, how many rows the module saw in its call."""
    with held(stub, len(calls)):
        pending = [stub.forward_async(*call) for call in calls]
    return [int(future.wait()[1][0]) for future in pending]


def ones(rows=1, **options):
    return torch.ones(rows, 3, dtype=torch.float64, **options)
