"""With a device map, calls wait for an accelerator where they change threads or streams: jit/runtime/accelerator.py."""

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote import _torch
from torchremote.jit import compile_interface
from torchremote.jit.export.module import COMPILED, NAMED_DEVICES
from torchremote.jit.runtime.tensors import HAS_DEVICE_MAP, NO_GRAD
from torchremote.owner import modules, scripting
from torchremote.owner.running.gathering import Gather
from torchremote.owner.running.hosting import Ways

from ..group import play

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@tr.remote_scriptable
class Tangents:
    @tr.batched(0)
    def forward(self, x: Tensor) -> Tensor: ...

    @tr.batched(0)
    @tr.idempotent
    def again(self, x: Tensor) -> Tensor: ...

    def total(self, x: Tensor, more: list[Tensor]) -> float: ...

    def fail(self, x: Tensor) -> Tensor: ...


class TangentsModule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("one", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x.tan() + self.one

    def again(self, x: Tensor) -> Tensor:
        return x.tan()

    def total(self, x: Tensor, more: list[Tensor]) -> float:
        x.tan_()
        return 1.0

    def fail(self, x: Tensor) -> Tensor:
        x.tan_()
        if x.numel() > 0:
            raise ValueError("no")
        return x


def role(store):
    """Calls endpoints with tensors that are on the module's device already, and flags that say so."""
    from .. import accelerator as toy

    torch.set_num_interop_threads(1)
    compiled = compile_interface(Tangents)
    x = torch.ones(2, 3).to("toy")
    for in_turn, gather in ((False, None), (True, None), (True, Gather(8, compiled.interface))):
        scripted = scripting.scripted_module(TangentsModule().to("toy"), compiled.contract.interface)
        handle = modules.add(compiled.contract, scripted, toy.DEVICE, Ways(in_turn, gather))

        def call(method, *arguments, flags, handle=handle):
            toy.log.clear()
            endpoint = _torch.find_function(compiled.contract.endpoints[method])
            with (
                pytest.raises((RuntimeError, torch.jit.Error), match="ValueError: no")
                if method == "fail"
                else nullcontext()
            ):
                endpoint(handle, *arguments, flags | NO_GRAD)
            names, threads = zip(*toy.log, strict=True)
            tangent = next(place for place, name in enumerate(names) if name.startswith("tan"))
            waits = [place for place, name in enumerate(names) if name == "_local_scalar_dense"]
            return [place < tangent for place in waits], [threads[place] == threads[tangent] for place in waits]

        for method, arguments in (("forward", (x,)), ("again", (x,)), ("total", (x, [x, x])), ("fail", (x,))):
            for _ in range(3):  # TorchScript leaves out what it thinks has no effect, after it has run a function once
                waits = call(method, *arguments, flags=HAS_DEVICE_MAP)
                if in_turn:
                    assert waits == ([True, False], [False, True]), method
                else:
                    assert waits == (([False], [True]) if method in ("forward", "again") else ([], [])), method
                assert call(method, *arguments, flags=0) == ([], []), method
        modules.remove(handle)
    print("said: all")


def test_work_is_handed_over_when_the_accelerator_has_done_it(tmp_path):
    assert "said: all" in play(tmp_path, role)[0]


# -- modules that were compiled for it


@tr.remote_scriptable
class Layer:
    def forward(self, x: Tensor) -> Tensor: ...


class Tangent(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.tan()


def stand_in(device: str) -> torch.jit.ScriptModule:
    """Makes a module that says what one that AOTInductor compiled says of itself. It has no parameters."""
    module = Tangent()
    setattr(module, NAMED_DEVICES, device)
    setattr(module, COMPILED, True)
    return torch.jit.script(module)


def hosts_compiled(store):
    from .. import accelerator as toy

    tr.serve(stand_in(str(toy.DEVICE)), Layer, "served")
    stub = tr.connect("hosts_compiled", Layer, "served")
    rref = tr.at_owner(stub).module_rref()
    for call in (stub, tr.RemoteModule.init_from_module_rref("hosts_compiled", rref, Layer)):
        hosting = modules.entries_here()[-1].hosting
        assert (hosting.device, hosting.moves) == (toy.DEVICE, True)
        toy.log.clear()
        assert torch.equal(call(torch.ones(3)), torch.ones(3).tan())
        assert "tan" in [operator for operator, _ in toy.log]
    print("said: all")


def test_a_compiled_module_is_hosted_where_it_was_compiled(tmp_path):
    assert "said: all" in play(tmp_path, hosts_compiled)[0]
