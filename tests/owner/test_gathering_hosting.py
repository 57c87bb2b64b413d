"""Ways to host modules whose calls are gathered, and what is refused."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Tuple

import pytest
import torch
import torch.distributed.rpc as rpc
from torch import Tensor, nn

import torchremote as tr
from torchremote import _torch
from torchremote.caller.creating import sending
from torchremote.errors import ArgumentError, CreationError
from torchremote.jit import compile_interface
from torchremote.jit.runtime.tensors import HAS_DEVICE_MAP, NO_GRAD
from torchremote.owner import modules, scripting
from torchremote.owner.create import CreateRequest
from torchremote.owner.running.gathering import Gather
from torchremote.owner.running.hosting import Ways

from .. import zoo
from ..group import one_thread_for_forks, play
from ..owner_process import resident
from .gathering import Scaler, ScalerModule, gate, held, ones, rows_seen, shut_gate, until_entered

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_what_cannot_be_gathered_is_refused(owner):
    for wrong in (0, 1, -3, True, 2.0, "64", 1 << 17):
        with pytest.raises(ArgumentError, match=r"gather=.*: an int from 2 to 65536 is wanted, the most calls that"):
            tr.create(owner, Scaler, ScalerModule, gather=wrong)
    for host in (
        lambda: tr.create(owner, zoo.Sleeper, zoo.SlowLoop, gather=8),
        lambda: tr.create_many([owner], zoo.Sleeper, zoo.SlowLoop, gather=8),
        lambda: tr.serve(zoo.SlowLoop(), zoo.Sleeper, "slow", gather=8),
    ):
        with pytest.raises(ArgumentError, match=r"gather=8: Sleeper has no method .* write @torchremote.batched\(0\)"):
            host()


def test_owners_of_earlier_releases_are_not_asked_to_gather():
    request = CreateRequest("Sleeper", "", zoo.SlowLoop, (), {}, "cpu", True, None, None, "raise", True, "", 0)
    assert {"gather", "declared", "examples"}.isdisjoint(sending._fields(request))
    assert sending._fields(replace(request, gather=8))["gather"] == 8


def test_modules_of_one_interface_share_no_batch(owner):
    stubs = [tr.create(owner, Exportable, Adding, (float(number),), gather=8) for number in range(4)]
    with torch.no_grad():
        for _ in range(60):
            pending = [stub.forward_async(ones()) for stub in stubs for _ in range(4)]
            assert [float(future.wait()[0][0, 0]) for future in pending] == [
                1.0 + n for n in range(4) for _ in range(4)
            ]


class Adding(nn.Module):
    def __init__(self, number: float):
        super().__init__()
        self.number = number

    def forward(self, x: Tensor, scale: float) -> Tuple[Tensor, Tensor]:
        return x + self.number, x.new_full([x.size(0)], x.size(0))


def test_all_ways_to_host(owner):
    with torch.no_grad():
        (stub,) = tr.create_many([owner], Scaler, ScalerModule, gather=8)
        assert rows_seen(stub, [(ones(),)] * 4) == [4] * 4
        first = tr.create(owner, Scaler, ScalerModule, name="scaler")
        assert [int(future.wait()[1]) for future in [first.forward_async(ones()) for _ in range(4)]] == [1] * 4
        tr.create(owner, Scaler, ScalerModule, name="scaler", if_exists="replace", gather=8)
        assert rows_seen(first, [(ones(),)] * 4) == [4] * 4
        other = tr.connect(owner, Forward, "scaler")  # which has one of its methods, without a mark
        with held(first, 4):
            pending = [other.forward_async(ones(), 1.0) for _ in range(4)]
        assert [int(future.wait()[1]) for future in pending] == [4] * 4
        tr.withdraw("scaler", owner)
        plain = tr.create(owner, Scaler, ScalerModule, gather=8, in_turn=False)
        assert rows_seen(plain, [(ones(),)] * 4) == [4] * 4


@tr.remote_scriptable
class Forward:
    def forward(self, x: Tensor, scale: float) -> Tuple[Tensor, Tensor]: ...


def test_nothing_is_kept(owner, scaler):
    x = torch.ones(500, 3, dtype=torch.float64)

    def work():
        with torch.no_grad():
            for _ in range(20):
                torch.futures.wait_all([scaler.forward_async(x) for _ in range(50)])

    work()
    before = rpc.rpc_sync(owner, resident)
    for _ in range(3):
        work()
    assert rpc.rpc_sync(owner, resident) - before < 20 << 20  # the tensors of all calls have 72 MB


class Counting(ScalerModule):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor, scale: float) -> Tuple[Tensor, Tensor]:
        self.calls += 1
        return x * scale, torch.full([x.size(0)], x.size(0))


def too_late(store):
    torch.set_num_interop_threads(2)
    for module, in_turn in ((ScalerModule(), None), (ScalerModule(), True), (Counting(), None)):
        with pytest.raises(CreationError) as refused:
            tr.serve(module, Scaler, "scaler", gather=64, in_turn=in_turn)
        print("said:", refused.value)


@one_thread_for_forks
def test_an_owner_that_cannot_says_what_to_write(tmp_path):
    gathered, both, changes = play(tmp_path, too_late)[0].split("said: ")[1:]
    assert gathered.startswith("ScalerModule: its calls have to run one after another (gather=64), and this process")
    assert "rpc_options(in_turn=True)" in gathered
    assert gathered.endswith("Or say gather=None\n")
    for said in (both, changes):
        assert "Or say gather=None and in_turn=False, if no two calls of the module ever run at once" in said
    assert "Counting.forward assigns self.calls" in changes


class OnlyExported(ScalerModule):
    """TorchScript refuses it."""

    def forward(self, x: Tensor, scale: float, **options) -> Tuple[Tensor, Tensor]:
        return self.linear(x) * scale, x.new_full((x.size(0),), x.size(0))


@tr.remote_scriptable
class Exportable:
    @tr.batched(0)
    def forward(self, x: Tensor, scale: float = 1.0) -> Tuple[Tensor, Tensor]: ...


def test_exported_modules(owner, scaler):
    stub = tr.create(owner, Exportable, OnlyExported, examples={"forward": (ones(4), 1.0)}, gather=8)
    with torch.no_grad():
        for _ in range(3):
            stub(ones())
        with held(scaler, 5, stub):
            pending = [stub.forward_async(ones(1 + n)) for n in range(5)]
        for n, future in enumerate(pending):
            y, seen = future.wait()
            assert torch.equal(y, ScalerModule()(ones(1 + n), 1.0)[0])
            assert seen.tolist() == [15.0] * (1 + n)


def test_a_module_on_an_accelerator(owner, scaler):
    from .. import accelerator as accelerator

    stub = tr.create(f"{owner}/toy:0", Scaler, ScalerModule, gather=8)
    with torch.no_grad():
        for _ in range(3):
            stub(ones())
        with held(scaler, 5, stub):
            pending = [stub.forward_async(ones(1 + n)) for n in range(5)]
        for n, future in enumerate(pending):
            y, _ = future.wait()
            assert y.device.type == "cpu"
            assert torch.equal(y, ScalerModule()(ones(1 + n), 1.0)[0])


def mapped(store):
    """Calls the endpoint with tensors that are on the module's device already, and a flag that says so."""
    from .. import accelerator as toy

    torch.set_num_interop_threads(1)
    compiled = compile_interface(Scaler)
    module = ScalerModule()
    module.linear.to("toy")
    scripted = scripting.scripted_module(module, compiled.contract.interface)
    gather = Gather(8, compiled.interface)
    handle = modules.add(compiled.contract, scripted, toy.DEVICE, Ways(gather=gather))
    forward = _torch.find_function(compiled.contract.endpoints["forward"])
    hold = _torch.find_function(compiled.contract.endpoints["hold"])

    def call(number):
        return forward(handle, ones(1 + number).to("toy"), 2.0, NO_GRAD | HAS_DEVICE_MAP)

    for _ in range(3):
        call(0)
    with ThreadPoolExecutor(6) as pool:
        shut_gate()
        holding = pool.submit(hold, handle, 0)
        until_entered()
        calls = [pool.submit(call, number) for number in range(5)]
        time.sleep(1)
        gate.fill_(False)
        holding.result()
        for number, future in enumerate(calls):
            y, seen = future.result()
            assert y.device.type == "toy"
            assert torch.equal(toy.values_of(y), ScalerModule()(ones(1 + number), 2.0)[0])
            assert seen.tolist() == [15] * (1 + number)
    print("said: all")


def test_tensors_that_are_on_the_accelerator_already(tmp_path):
    assert "said: all" in play(tmp_path, mapped)[0]
