"""Calls of modules on a CUDA device, with a device map and without one. Most also run on the CPU."""

import asyncio
import contextlib
import subprocess
import sys
from typing import Any

import pytest
import torch
import torch.distributed.autograd as dist_autograd
import torch.distributed.rpc as rpc
from torch import Tensor, nn

import torchremote as tr
from torchremote.dropin.remote_module import _RemoteModule
from torchremote.errors import ArgumentError, RemoteError

from .. import gallery, zoo
from .test_devices import COUNT, arguments


@tr.remote_scriptable
class Recurrent:
    def forward(self, x: Tensor) -> Tensor: ...


class Adding(nn.Module):
    """Changes itself; its calls run in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("start", torch.zeros(4))
        self.total = torch.zeros(4)

    def forward(self, x: Tensor) -> Tensor:
        self.total = self.total.to(x.device) + self.start + x
        return self.total


class OnlyExported(nn.Module):
    """TorchScript refuses it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        for parameter in self.parameters():
            nn.init.constant_(parameter, 0.25)

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        return self.linear(x) + sum(torch.full_like(x, n) for n in range(3))


def placed_calls(place: str, home: str) -> None:
    """Makes calls of every form of a module on `place`; results arrive on `home`."""
    stub = tr.create(place, gallery.Everywhere, gallery.EverywhereModule)
    sent = arguments()
    there = place.partition("/")[2].partition(":")[0]
    for devices, results in (stub(*sent), stub.forward_async(*sent).wait(), asyncio.run(answer(stub, *sent))):
        assert devices == [there] * COUNT
        assert results[0].device.type == results[3].pair.a.device.type == results[5][1][0].device.type == home
        assert torch.equal(results[0].cpu(), sent[0] * 3)


async def answer(stub: Any, *sent: Any) -> Any:
    return await stub.forward_async(*sent)


def many_calls(place: str, home: str) -> None:
    encoder = tr.create(place, zoo.Encoder, zoo.LinearEncoder)
    xs = [torch.randn(2, 8) for _ in range(50)]
    for x, result in zip(xs, encoder.forward_many([(x,) for x in xs]), strict=True):
        assert result.device.type == home
        assert torch.allclose(result.cpu(), zoo.LinearEncoder.output(0, x), atol=1e-5)


def calls_in_turn(place: str, home: str) -> None:
    adding = tr.create(place, Recurrent, Adding)
    answers = [adding.forward_async(torch.ones(4)) for _ in range(200)]
    sums = torch.stack([answer.wait() for answer in answers])
    assert sums.device.type == home
    assert sums[:, 0].tolist() == list(range(1, 201))


@tr.remote_scriptable
class Rows:
    @tr.batched(0)
    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor: ...


def gathered_calls(place: str, home: str) -> None:
    rows = tr.create(place, Rows, zoo.LinearEncoder, gather=64)
    weights = zoo.LinearEncoder(seed=0)
    with torch.no_grad():
        for in_flight in (1, 4, 256):
            xs = [torch.randn(1 + n % 3, 8) for n in range(in_flight)]
            answers = [rows.forward_async(x.to(home), 1.0 + n % 2) for n, x in enumerate(xs)]
            for n, (x, answer) in enumerate(zip(xs, answers, strict=True)):
                assert answer.wait().device.type == home
                assert torch.allclose(answer.wait().cpu(), weights(x, 1.0 + n % 2), atol=1e-5)


@tr.remote_scriptable
class Late:
    @tr.batched(0)
    def forward(self, x: Tensor) -> Tensor: ...

    def sums(self, x: Tensor) -> Tensor: ...


class LateModule(nn.Module):
    """Takes some time on the device, so that whoever does not wait for its results has others."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.eye(size))
        self.register_buffer("sum", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * busy(self.weight)

    def sums(self, x: Tensor) -> Tensor:
        self.sum = self.sum + x * busy(self.weight)
        return self.sum


class LateAndWaiting(LateModule):
    """Waits in its methods. So each of its calls is forked."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.jit.fork(busy, self.weight).wait()


class Through(nn.Module):
    def __init__(self, late: nn.Module) -> None:
        super().__init__()
        self.late = late

    def forward(self, x: Tensor) -> Tensor:
        return self.late(x) + 0


def size_of(home: str) -> int:
    """Returns the size of weights that keep a device busy: in `busy`, some 20 ms."""
    return 4096 if home == "cuda" else 8


def slow_to_arrive(home: str) -> Tensor:
    """Makes a tensor of 256 MiB, which takes some time to copy, where tensors arrive on a device; else a small one."""
    return torch.full((64, 1 << 20 if home == "cuda" else 8), 3.0).to(home)


def busy(weight: Tensor) -> Tensor:
    y = weight
    for _ in range(8):
        y = y @ weight
    return y[0, 0]


def late_results(place: str, home: str) -> None:
    """Arguments that are computed while they are sent, by calls of every way to run; results are sent as soon."""
    size = size_of(home)
    weight = torch.eye(size, device=home)
    for made, how in (
        (LateModule, {"in_turn": False}),
        (LateModule, {"in_turn": True}),
        (LateModule, {"in_turn": True, "gather": 8}),
        (LateAndWaiting, {"in_turn": False}),
        (LateAndWaiting, {"in_turn": True}),
    ):
        late = tr.create(place, Late, made, (size,), **how)
        for learns in (False, True):
            with torch.set_grad_enabled(learns):  # calls with gradients are not gathered
                answers = [late.forward_async(torch.full((2, 4), n + 1.0).to(home) * busy(weight)) for n in range(6)]
                for n, answer in enumerate(answers):
                    assert answer.wait().tolist() == [[n + 1.0] * 4] * 2, how
        x = slow_to_arrive(home)
        assert torch.equal(torch.jit.script(Through(late))(x), x)
        for n, result in enumerate(late.forward_many([(x * n,) for n in range(3)])):  # of one message
            assert torch.equal(result, x * n)
        for result in late.forward_many_async([(x,), (x,)], return_exceptions=True).wait():  # of one each
            assert torch.equal(result, x)
        if how["in_turn"]:
            sums = [late.sums_async(torch.full((1,), 1.0).to(home) * busy(weight)) for _ in range(20)]
            assert [answer.wait().item() for answer in sums] == [float(n + 1) for n in range(20)]


def late_results_in_a_stream(place: str, home: str) -> None:
    """The same in a stream of the caller, which does not wait for the work of the default one."""
    with torch.cuda.stream(torch.cuda.Stream()) if home == "cuda" else contextlib.nullcontext():
        late_results(place, home)


@tr.remote_scriptable
class Patient:
    @tr.idempotent
    def forward(self, x: Tensor) -> Tensor: ...


def calls_that_are_sent_again(place: str, home: str) -> None:
    """Arguments that are computed while their call is refused, and sent to the module that has the name by now."""
    size, owner = size_of(home), place.partition("/")[0]
    weight, x = torch.eye(size, device=home), slow_to_arrive(home)
    tr.create(place, Patient, LateModule, (size,), name="again")
    stub = tr.connect(owner, Patient, "again")
    for n in range(4):
        tr.withdraw("again", owner)
        tr.create(place, Patient, LateModule, (size,), name="again")
        sent = [torch.full((2, 4), n + 1.0).to(home), x + n] * 2
        answers = [stub.forward_async(given * busy(weight)) for given in sent]
        for given, answer in zip(sent, answers, strict=True):
            assert torch.equal(answer.wait(), given)
    tr.withdraw("again", owner)


def calls_of_replicas(place: str, home: str) -> None:
    """Batches in parts, and calls that another replica runs, because their own was withdrawn."""
    owner, _, device = place.partition("/")
    for worker in (owner, "caller"):
        tr.create(f"{worker}/{device}", Patient, LateModule, (size_of(home),), name="late replica")
    replicas = tr.connect([owner, "caller"], Patient, "late replica")
    x = slow_to_arrive(home)
    sent = [x + n for n in range(4)]
    calls = [(given,) for given in sent]
    for _ in range(3):
        singly = replicas.forward_many_async(calls, return_exceptions=True)
        for results in (replicas.forward_many(calls), singly.wait()):
            assert all(map(torch.equal, results, sent))
    tr.withdraw("late replica", "caller")
    answers = [replicas.forward_async(given) for given in sent]
    assert all(map(torch.equal, [answer.wait() for answer in answers], sent))
    tr.withdraw("late replica", owner)


def failed_calls(place: str, home: str) -> None:
    encoder = tr.create(place, zoo.Encoder, zoo.LinearEncoder)
    good, wrong = torch.ones(2, 8), torch.ones(2, 3)
    for answer in (encoder.forward_async(wrong), encoder.forward_many_async([(good,), (wrong,)])):
        with pytest.raises(RemoteError, match="mat1 and mat2"):
            answer.wait()
    result, failure = encoder.forward_many([(good,), (wrong,)], return_exceptions=True)
    assert result.device.type == home
    assert isinstance(failure, RemoteError)
    result, failure = encoder.forward_many_async([(good,), (wrong,)], return_exceptions=True).wait()
    assert result.device.type == home
    assert isinstance(failure, RemoteError)


def exported_calls(place: str, home: str) -> None:
    stub = tr.create(place, Recurrent, OnlyExported, examples={"forward": (torch.ones(3, 4),)})
    x = torch.randn(5, 4)
    result = stub(x)
    assert result.device.type == home
    assert torch.allclose(result.cpu(), OnlyExported()(x), atol=1e-5)


def gradients(place: str, home: str) -> None:
    x = torch.randn(2, 8, requires_grad=True)
    encoder = tr.create(place, zoo.Encoder, zoo.LinearEncoder)
    zoo.LinearEncoder.output(0, x).sum().backward()
    with dist_autograd.context() as context:
        dist_autograd.backward(context, [encoder(x).sum()])
        found = dist_autograd.get_gradients(context)
    assert torch.allclose(found[x].cpu(), x.grad, atol=1e-5)


def state_and_moves(place: str, home: str) -> None:
    encoder = tr.create(place, zoo.Encoder, zoo.LinearEncoder)
    x = torch.randn(2, 8)
    state = tr.at_owner(encoder).state_dict()
    assert all(tensor.device.type == "cpu" for tensor in state.values())
    encoder = tr.at_owner(encoder).to("cpu")
    assert torch.allclose(encoder(x).cpu(), zoo.LinearEncoder.output(0, x), atol=1e-5)


def update_late(parameters: list[Any]) -> None:
    """Does as the step of an optimizer of torch's: runs on the owner, and returns while the device is at work."""
    with torch.no_grad():
        for parameter in parameters:
            local = parameter.local_value()
            local.add_(busy(torch.eye(size_of(local.device.type), device=local.device)))


def state_while_it_changes(place: str, home: str) -> None:
    """State is that after all that was begun before, in whichever stream."""
    encoder = tr.create(place, zoo.Encoder, zoo.LinearEncoder)
    at_owner = tr.at_owner(encoder)
    before = at_owner.state_dict()
    for n in range(1, 4):
        rpc.rpc_sync(place.partition("/")[0], update_late, (at_owner.parameters(),))
        for name, tensor in at_owner.state_dict().items():
            assert torch.allclose(tensor, before[name] + n)


CALLS = [
    placed_calls,
    many_calls,
    calls_in_turn,
    gathered_calls,
    late_results,
    late_results_in_a_stream,
    calls_that_are_sent_again,
    calls_of_replicas,
    failed_calls,
    exported_calls,
    gradients,
    state_and_moves,
    state_while_it_changes,
]


@pytest.mark.parametrize("calls", CALLS, ids=lambda calls: calls.__name__)
def test_the_same_on_the_cpu(owner, calls):
    calls(f"{owner}/cpu", "cpu")


def on_cuda(mapped: bool) -> None:
    home = "cuda" if mapped else "cpu"
    for calls in CALLS:
        calls("owner/cuda:0", home)
    x = torch.ones(2, 8, device="cuda:0")
    encoder = tr.create("owner/cuda:0", zoo.Encoder, zoo.LinearEncoder)
    if mapped:
        assert torch.allclose(encoder(x).cpu(), zoo.LinearEncoder.output(0, x.cpu()), atol=1e-5)
    else:
        with pytest.raises(ArgumentError, match=r"Encoder.forward.x: a tensor on cuda:0, which is not in"):
            encoder(x)
    for interface in (None, zoo.Encoder):
        module = _RemoteModule("owner/cuda:0", zoo.LinearEncoder, _module_interface_cls=interface)
        assert module.is_device_map_set == mapped
        assert module.device == "cuda:0"
        result = module.forward(x.cpu(), 2.0)
        assert result.device.type == home
        assert torch.allclose(result.cpu(), zoo.LinearEncoder.output(0, x.cpu()) * 2, atol=1e-5)


_WORLD = """
import sys, torch, torch.distributed.rpc as rpc
import torchremote as tr
from tests.link import test_cuda

rank, store, mapped = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "mapped"
options = tr.rpc_options(init_method=store, rpc_timeout=60)
for worker in ("caller", "owner") if mapped else ():
    options.set_device_map(worker, {0: 0})
rpc.init_rpc(("caller", "owner")[rank], rank=rank, world_size=2, rpc_backend_options=options)
if rank == 0:
    test_cuda.on_cuda(mapped)
rpc.shutdown()
"""


@pytest.mark.gpu
@pytest.mark.timeout(240)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mapped", ["mapped", "staged"])
def test_cuda(tmp_path, mapped):
    command = [sys.executable, "-c", _WORLD]
    owner = subprocess.Popen([*command, "1", f"file://{tmp_path}/store", mapped])
    try:
        subprocess.run([*command, "0", f"file://{tmp_path}/store", mapped], check=True, timeout=200)
        assert owner.wait(timeout=30) == 0
    finally:
        owner.kill()
        owner.wait()
