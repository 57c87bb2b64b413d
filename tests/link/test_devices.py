"""Movement, with real data on a second device: one written in Python (tests/accelerator.py), and CUDA if there is."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

import torchremote as tr
from torchremote import _torch, testing
from torchremote.caller.stub import stub_along
from torchremote.dropin.remote_module import _RemoteModule
from torchremote.errors import ArgumentError, RemoteError
from torchremote.jit import compile_interface
from torchremote.jit.runtime.tensors import HAS_DEVICE_MAP
from torchremote.link.route import route_of

from .. import gallery, zoo
from ..zoo import Color, Mode, Painted, Pair


@pytest.fixture(scope="module")
def toy():
    from .. import accelerator

    return accelerator


def arguments():
    x = [torch.full((2,), float(n)) for n in range(12)]
    painted = Painted(Pair(x[0], 1), [Color.RED], {"a": (Pair(x[1], 2), Mode.EVAL)}, None, torch.int8)
    return x[2], [x[3], x[4]], {"a": x[5], "b": None}, painted, x[6], (1, [x[7]]), {x[8]: 4}, (5, (x[9], "s"))


COUNT = 10  # tensors in `arguments()`


def test_without_a_device_map_tensors_move_in_and_back_out(owner, toy):
    stub = tr.create(f"{owner}/toy:0", gallery.Everywhere, gallery.EverywhereModule)
    sent = arguments()
    for devices, results in (stub(*sent), stub.forward_async(*sent).wait()):
        assert devices == ["toy"] * COUNT
        assert testing.same(results, (sent[0] * 3, *sent[1:]))


def test_a_module_on_the_cpu_moves_nothing(owner):
    stub = tr.create(owner, gallery.Everywhere, gallery.EverywhereModule)
    devices, results = stub(*arguments())
    assert devices == ["cpu"] * COUNT
    assert testing.same(results, (arguments()[0] * 3, *arguments()[1:]))


def test_a_module_without_tensors_is_on_the_device_that_was_asked_for(owner, toy):
    stub = tr.create(f"{owner}/toy:0", zoo.WhereIs, zoo.WhereIsModule)
    assert stub(torch.ones(1)) == "toy"
    stub = tr.at_owner(stub).to("cpu")
    assert stub(torch.ones(1)) == "cpu"
    stub = tr.at_owner(stub).to("toy:0")
    assert stub(torch.ones(1)) == "toy"


def test_what_is_no_tensor_is_not_touched(owner, toy):
    stub = tr.create(f"{owner}/toy:0", zoo.Counters, zoo.CountersModule)
    assert stub.count({"a": 1, "b": 2}) == [("a", 1), ("b", 2)]


def test_with_a_device_map_tensors_move_in_and_stay(toy):
    """The endpoint itself, in this process: torch maps no device but its own accelerators."""
    contract = compile_interface(zoo.Encoder).contract
    module = zoo.LinearEncoder().to("toy")
    scripted = _torch.script_module(module, ["forward", "topk", "reset", "fail"])
    handle = tr.owner.modules.add(contract, scripted, toy.DEVICE)
    x = torch.randn(3, 8)
    endpoint = _torch.find_function(contract.endpoints["forward"])
    for flags, device in ((HAS_DEVICE_MAP, "toy"), (0, "cpu")):
        result = endpoint(handle, x, 2.0, flags)
        assert result.device.type == device
        assert torch.equal(result.detach().cpu(), zoo.LinearEncoder.output(0, x) * 2)
    tr.owner.modules.remove(handle)


def as_if_mapped(stub):
    """The same module for a caller that thinks that it has a device map."""
    return stub_along(stub, replace(route_of(stub), devices=(torch.device("cpu"),)))


def test_a_result_on_a_device_that_nobody_mapped_is_an_error(owner, toy):
    stub = tr.create(f"{owner}/toy:0", zoo.Encoder, zoo.LinearEncoder)
    with pytest.raises(RemoteError, match=r"Encoder.forward on owner: .*toy"):
        as_if_mapped(stub)(torch.ones(1, 8))
    assert stub(torch.ones(1, 8)).device.type == "cpu"


def test_an_argument_on_a_device_that_nobody_mapped_is_refused(owner, toy):
    stub = tr.create(owner, gallery.Everywhere, gallery.EverywhereModule)
    good = arguments()
    for place, bad in (("plain", torch.ones(2)), ("either", torch.ones(2)), ("anything", [torch.ones(2)])):
        moved = [bad[0].to("toy")] if isinstance(bad, list) else bad.to("toy")
        names = "plain listed maybe painted either anything keys deep".split()
        sent = {**dict(zip(names, good, strict=True)), place: moved}
        with pytest.raises(ArgumentError, match=rf"Everywhere.forward.{place}: a tensor on toy:0, which is not in"):
            stub(**sent)
    assert stub(*good)[0] == ["cpu"] * COUNT


# -- CUDA

_WORLD = """
import sys, torch, torch.distributed.rpc as rpc
import torchremote as tr
from torchremote import testing
from tests import zoo
from tests.link import test_devices

rank, store, mapped = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "mapped"
options = tr.rpc_options(init_method=store, rpc_timeout=60)
if mapped:
    options.set_device_map("caller" if rank else "owner", {0: 0})
rpc.init_rpc(("caller", "owner")[rank], rank=rank, world_size=2, rpc_backend_options=options)
if rank == 0:
    test_devices.call_on_cuda(mapped)
rpc.shutdown()
"""


def call_on_cuda(mapped):
    stub = tr.create("owner/cuda:0", gallery.Everywhere, gallery.EverywhereModule)
    sent = arguments()
    devices, results = stub(*sent)
    assert devices == ["cuda"] * COUNT
    home = "cuda" if mapped else "cpu"
    assert results[0].device.type == results[3].pair.a.device.type == results[5][1][0].device.type == home
    assert torch.equal(results[0].cpu(), sent[0] * 3)
    x = torch.ones(2, 8, device="cuda:0")
    encoder = tr.create("owner/cuda:0", zoo.Encoder, zoo.LinearEncoder)
    if mapped:
        assert torch.allclose(encoder(x).cpu(), zoo.LinearEncoder.output(0, x.cpu()))
    else:
        with pytest.raises(ArgumentError, match=r"Encoder.forward.x: a tensor on cuda:0, which is not in"):
            encoder(x)
    assert encoder(x.cpu()).device.type == home
    for interface in (None, zoo.Encoder):
        module = _RemoteModule("owner/cuda:0", zoo.LinearEncoder, _module_interface_cls=interface)
        assert module.is_device_map_set == mapped
        assert module.device == "cuda:0"
        result = module.forward(x.cpu(), 2.0)
        assert result.device.type == home
        assert torch.allclose(result.cpu(), zoo.LinearEncoder.output(0, x.cpu()) * 2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mapped", ["mapped", "staged"])
def test_cuda(tmp_path, mapped):
    command = [sys.executable, "-c", _WORLD]
    owner = subprocess.Popen([*command, "1", f"file://{tmp_path}/store", mapped])
    try:
        subprocess.run([*command, "0", f"file://{tmp_path}/store", mapped], check=True, timeout=100)
        assert owner.wait(timeout=30) == 0
    finally:
        owner.kill()
        owner.wait()
