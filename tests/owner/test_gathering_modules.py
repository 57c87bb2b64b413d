"""Modules whose calls are gathered: they are replaced, change themselves, learn, and wait for others."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import List, Tuple

import pytest
import torch
import torch.distributed.autograd as dist_autograd
import torch.distributed.rpc as rpc
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import RemoteError
from torchremote.owner import modules

from .gathering import Scaler, ScalerModule, gate, held, ones, rows_seen, shut_gate

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


# -- modules that are replaced


@tr.remote_scriptable
class Versioned:
    @tr.batched(0)
    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]: ...


class VersionedModule(nn.Module):
    def __init__(self, version: int):
        super().__init__()
        self.version = version

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        y = torch.ones(32, 32)
        for _ in range(20):
            y = y @ y / 32
        return x * self.version, torch.full([x.size(0)], self.version)


def serve_version(name, version):
    tr.serve(VersionedModule(version), Versioned, name, replace=True, gather=32)


def test_a_module_is_replaced_under_load(owner):
    rpc.rpc_sync(owner, serve_version, ("versions", 0))
    stubs = [tr.connect(owner, Versioned, "versions") for _ in range(2)]
    stop, seen = threading.Event(), [set(), set()]

    def call(stub, versions):
        with torch.no_grad():
            while not stop.is_set():
                for x, future in [(ones() * n, stub.forward_async(ones() * n)) for n in range(1, 40)]:
                    y, version = future.wait()
                    assert torch.equal(y, x * version), "one half of the result is another module's"
                    versions.add(int(version))

    version = 0
    with ThreadPoolExecutor(2) as pool:
        calling = [pool.submit(call, stub, versions) for stub, versions in zip(stubs, seen, strict=True)]
        try:
            end = time.monotonic() + 60
            while min(map(len, seen)) < 8 and not any(future.done() for future in calling) and time.monotonic() < end:
                version += 1
                rpc.rpc_sync(owner, serve_version, ("versions", version))
        finally:
            stop.set()
        for future in calling:
            future.result(timeout=60)
    assert min(map(len, seen)) >= 8
    with torch.no_grad():
        assert int(stubs[0](ones())[1]) == version
    rpc.rpc_sync(owner, tr.withdraw, ("versions",))


# -- modules that look at what requires a gradient


@tr.remote_scriptable
class Looking:
    @tr.batched(0)
    def forward(self, x: Tensor) -> Tensor: ...
    def hold(self) -> int: ...


class LookingModule(ScalerModule):
    """Says of each row how many there are, and whether the tensor requires a gradient, and changes that."""

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.tensor([x.size(0), int(x.requires_grad), int(x.is_leaf)])
        x.requires_grad_(False)
        return seen.expand(x.size(0), 3)


def test_a_tensor_is_a_leaf_and_requires_a_gradient_if_it_does_alone(owner):
    stub = tr.create(owner, Looking, LookingModule, gather=64)
    with torch.no_grad():
        with held(stub, 6):
            pending = [stub.forward_async(ones(requires_grad=bool(number % 2))) for number in range(6)]
        assert [future.wait().tolist() for future in pending] == [[[3, number % 2, 1]] for number in range(6)]


# -- modules that change themselves


@tr.remote_scriptable
class Log:
    @tr.batched(0)
    def add(self, number: Tensor, kind: int) -> Tensor: ...
    def note(self, number: int) -> int: ...
    def numbers(self) -> List[int]: ...
    def batches(self) -> int: ...


class LogModule(nn.Module):
    seen: List[int]

    def __init__(self):
        super().__init__()
        self.seen = []
        self.calls = 0

    def add(self, number: Tensor, kind: int) -> Tensor:
        self.calls += 1
        for place in range(number.size(0)):
            self.seen.append(int(number[place]))
        return number

    def note(self, number: int) -> int:
        self.seen.append(number)
        return number

    def numbers(self) -> List[int]:
        return self.seen

    def batches(self) -> int:
        return self.calls


def test_the_calls_of_one_stub_keep_their_order(owner):
    log = tr.create(owner, Log, LogModule, gather=16)
    pending = []
    for n in range(0, 1200, 6):
        pending += [log.add_async(torch.tensor([n + m]), (n + m) // 50 % 2) for m in range(3)]
        pending.append(log.add_many_async([(torch.tensor([n + 3]), 0)]))
        pending.append(log.note_async(n + 4))
        pending.append(log.note_many_async([(n + 5,)]))
    torch.futures.wait_all(pending)
    assert log.numbers() == list(range(1200))
    assert log.batches() < 800


def test_calls_of_other_stubs_join_and_keep_theirs(owner):
    tr.create(owner, Log, LogModule, gather=16, name="log")
    try:
        logs = [tr.connect(owner, Log, "log") for _ in range(3)]

        def work(number):
            first = 1000 * number
            torch.futures.wait_all([logs[number].add_async(torch.tensor([first + n]), n % 2) for n in range(300)])

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(work, range(3)))
        numbers = logs[0].numbers()
        for number in range(3):
            assert [n for n in numbers if n // 1000 == number] == [1000 * number + n for n in range(300)]
        assert logs[0].batches() < 900
    finally:
        rpc.rpc_sync(owner, tr.withdraw, ("log",))


# -- gradients


class Learning(ScalerModule):
    def __init__(self):
        super().__init__()
        self.requires_grad_(True)


def test_gradients_flow_and_their_calls_are_not_gathered(owner):
    stub = tr.create(owner, Scaler, Learning, gather=64)
    found = []
    for _ in range(2):
        with dist_autograd.context() as context:
            with held(stub, 5):
                pending = [stub.forward_async(ones() * n) for n in range(5)]
            results = [future.wait() for future in pending]
            assert [int(seen) for _, seen in results] == [1] * 5
            dist_autograd.backward(context, [sum(y.sum() for y, _ in results)])
            found.append(tr.at_owner(stub).parameters()[0])
    local = Learning()
    sum(local(ones() * n, 1.0)[0].sum() for n in range(5)).backward()
    with dist_autograd.context() as context:
        y, _ = stub(ones(requires_grad=True))
        dist_autograd.backward(context, [y.sum()])
    with torch.no_grad():
        assert rows_seen(stub, [(ones(),)] * 5) == [5] * 5


def test_without_parameters_that_learn_calls_are_gathered_in_grad_mode_too(scaler):
    assert rows_seen(scaler, [(ones(),)] * 5) == [5] * 5
    assert rows_seen(scaler, [(ones(),), (ones(requires_grad=True),), (ones(),)]) == [2, 1, 2]


def test_parameters_that_begin_to_learn(owner):
    stub = tr.create(owner, Scaler, ScalerModule, gather=64)
    assert rows_seen(stub, [(ones(),)] * 3) == [3] * 3
    tr.at_owner(stub).requires_grad_(True)
    assert rows_seen(stub, [(ones(),)] * 3) == [1] * 3
    tr.at_owner(stub).requires_grad_(False)
    assert rows_seen(stub, [(ones(),)] * 3) == [3] * 3
    rpc.rpc_sync(owner, require_gradients_of_the_last)
    with held(stub, 3):
        pending = [stub.forward_async(ones()) for _ in range(3)]
    for future in pending:
        with pytest.raises(RemoteError, match="requires a gradient, because the module's parameters do since"):
            future.wait()


def require_gradients_of_the_last():
    for parameter in modules.entries_here()[-1].hosting.module.parameters():
        parameter.requires_grad_(True)


# -- modules that wait


@tr.remote_scriptable
class Slow:
    def forward(self, x: Tensor) -> Tensor: ...


class SlowModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.shut = gate

    def forward(self, x: Tensor) -> Tensor:
        rounds = 0
        while bool(self.shut):
            rounds += 1
        if bool((x < 0).any()):
            raise ValueError("negative")
        return x + 1


@tr.remote_scriptable
class Asking:
    @tr.batched(0)
    @tr.idempotent
    def forward(self, x: Tensor) -> Tensor: ...


class AskingModule(nn.Module):
    slow: Slow

    def __init__(self, where, name):
        super().__init__()
        self.slow = tr.connect(where, Slow, name)

    def forward(self, x: Tensor) -> Tensor:
        return self.slow.forward(x) * 2


def test_a_module_that_waits_for_another_owner_does_not_block(owner, scaler):
    tr.serve(SlowModule(), Slow, "slow")
    try:
        asking = tr.create(owner, Asking, AskingModule, args=("caller", "slow"), gather=8)
        with torch.no_grad():
            shut_gate()  # of this process
            pending = [asking.forward_async(torch.full([1, 1], float(n))) for n in range(4)]
            for _ in range(20):
                assert scaler(ones())[0][0, 0] == 7
            assert not any(future.done() for future in pending)
            gate.fill_(False)
            assert [float(future.wait()) for future in pending] == [2.0, 4.0, 6.0, 8.0]
            # It fails after it has waited, and then each runs again.
            pending = [asking.forward_async(torch.full([1, 1], value)) for value in (1.0, -1.0, 2.0)]
            assert float(pending[0].wait()) == 4
            with pytest.raises(RemoteError, match="negative"):
                pending[1].wait()
            assert float(pending[2].wait()) == 6
    finally:
        gate.fill_(False)
        tr.withdraw("slow")
