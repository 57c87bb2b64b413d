"""Movement, with real data on a second device, which is written in Python (tests/accelerator.py)."""

from dataclasses import replace

import pytest
import torch

import torchremote as tr
from torchremote import _torch, testing
from torchremote.caller.stubs.stub import stub_along
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
