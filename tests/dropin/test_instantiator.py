"""The functions that torch's instantiator gives, from ours: compiled for every signature, and called on a worker."""

import inspect
import pickle
import sys
import types
import warnings
from typing import Dict, List, NamedTuple, Optional, Tuple, Union

import pytest
import torch
import torch.distributed.rpc as rpc
from torch import Tensor, nn

from torchremote import _torch
from torchremote.dropin.instantiator import (
    get_arg_return_types_from_interface,
    instantiate_non_scriptable_remote_module_template,
    instantiate_scriptable_remote_module_template,
)
from torchremote.dropin.remote_module import _RemoteModule
from torchremote.dropin.templates import get_remote_module_template
from torchremote.errors import InterfaceError
from torchremote.jit import compile_interface

from .. import gallery, zoo
from .torch_interface import Scorer, ScorerModule


class Pair(NamedTuple):
    a: Tensor
    b: int


# What torch's instantiator compiles, of these: eight for a module on the CPU, one for a module on CUDA.
class Ordinary:
    class SingleTensor:
        def forward(self, x: Tensor) -> Tensor: ...

    class FlatTuple:
        def forward(self, x: Tensor, n: int) -> Tuple[Tensor, int]: ...

    class ListOfTensors:
        def forward(self, xs: List[Tensor]) -> List[Tensor]: ...

    class DictOfTensors:
        def forward(self, xs: Dict[str, Tensor]) -> Dict[str, Tensor]: ...

    class OptionalTensor:
        def forward(self, x: Optional[Tensor]) -> Optional[Tensor]: ...

    class Named:
        def forward(self, x: Pair) -> Pair: ...

    class NoResult:
        def forward(self, x: Tensor) -> None: ...

    class NoArguments:
        def forward(self) -> Tensor: ...

    class ArgumentCalledDevice:
        def forward(self, device: str, x: Tensor) -> Tensor: ...

    class ArgumentsCalledArgs:
        def forward(self, args: int, kwargs: int) -> Tensor: ...

    class Device:
        def forward(self, d: torch.device) -> Tensor: ...

    class IntOrTensor:
        def forward(self, d: Union[int, Tensor]) -> Tensor: ...

    class NoForward:
        def encode(self, x: Tensor) -> Tensor: ...

    class Nested:
        class Inner:
            def forward(self, x: Tensor) -> Tensor: ...


with warnings.catch_warnings():
    warnings.simplefilter("ignore")

    @torch.jit.interface
    class OfClasses:
        def forward(self, x: Tensor, n: int) -> Tensor:
            pass


ORDINARY = [OfClasses, *(cls for name, cls in vars(Ordinary).items() if inspect.isclass(cls)), Ordinary.Nested.Inner]
ORDINARY.remove(Ordinary.Nested)


class Holder(nn.Module):
    """What takes the functions as its methods, as torch's RemoteModule does."""

    def __init__(self, functions, rref, device, is_device_map_set=False):
        super().__init__()
        self.module_rref, self.device, self.is_device_map_set = rref, device, is_device_map_set
        for function in functions._generated_methods:
            setattr(self, function.__name__, types.MethodType(torch.jit.export(function), self))


def offer(interface, module, device, moves):
    """On the owner: a typed reference to a module, and the functions that calls through it need."""
    instantiate_scriptable_remote_module_template(interface, moves)
    scripted = _torch.script_module(
        module().to(device), [m.name for m in compile_interface(interface).interface.methods]
    )
    return rpc.RRef(scripted, interface)


def holder_of(owner, interface, module, device="cpu", moves=True):
    functions = instantiate_scriptable_remote_module_template(interface, moves)
    return Holder(functions, rpc.rpc_sync(owner, offer, (interface, module, device, moves)), device)


@pytest.mark.parametrize("moves", [True, False])
@pytest.mark.parametrize("interface", [*ORDINARY, zoo.Awkward, zoo.Deep, gallery.Everywhere], ids=lambda i: i.__name__)
def test_every_ordinary_signature(interface, moves):
    functions = instantiate_scriptable_remote_module_template(interface, moves)
    names = [method.name for method in compile_interface(interface).interface.methods]
    assert [f.__name__ for f in functions._generated_methods] == [n for name in names for n in (f"{name}_async", name)]
    for name in names:
        assert isinstance(getattr(functions, f"_remote_{name}"), torch.jit.ScriptFunction)
        arguments = list(inspect.signature(getattr(functions, name)).parameters)[1:]
        assert arguments == [a.name for a in compile_interface(interface).interface.method(name).arguments]


def test_it_is_called_eagerly_and_scripted(owner):
    holder = holder_of(owner, zoo.Encoder, zoo.LinearEncoder)
    x = torch.randn(2, 8)
    expected = zoo.LinearEncoder.output(0, x)
    scripted = torch.jit.script(holder)
    for it in (holder, scripted):
        assert torch.equal(it.forward(x), expected)
        assert torch.equal(it.forward_async(x, 2.0).wait(), expected * 2)
        assert torch.equal(it.topk(x, k=3)[0], x.topk(3)[0])
        assert it.reset() is None
        assert torch.equal(it.forward(x), torch.zeros(2, 8))
        rpc.rpc_sync(owner, zoo.refill, (holder.module_rref,))


def test_the_reference_of_a_remote_module_has_the_interfaces_type(owner):
    rpc.rpc_sync(owner, instantiate_here, (Scorer,))
    module = _RemoteModule(owner, ScorerModule, _module_interface_cls=Scorer)
    holder = Holder(instantiate_scriptable_remote_module_template(Scorer), module.get_module_rref(), "cpu")
    x = torch.ones(1, 3)
    assert torch.equal(torch.jit.script(holder).forward(x, 3)[0], module(x, 3)[0])


def instantiate_here(interface):
    instantiate_scriptable_remote_module_template(interface)


@pytest.mark.parametrize(("moves", "where"), [(True, "toy"), (False, "cpu")])
def test_tensors_move_if_asked_for(owner, moves, where):
    from .. import accelerator

    holder = holder_of(owner, zoo.WhereIs, zoo.WhereIsModule, str(accelerator.DEVICE), moves)
    assert holder.forward(torch.ones(1)) == where


def test_deep_inside_containers_and_back(owner):
    from .. import accelerator
    from ..link import test_devices

    holder = holder_of(owner, gallery.Everywhere, gallery.EverywhereModule, str(accelerator.DEVICE))
    devices, results = holder.forward(*test_devices.arguments())
    assert devices == ["toy"] * test_devices.COUNT
    assert results[0].device.type == "cpu"


def test_what_torch_cannot_send_is_refused_here(owner):
    holder = holder_of(owner, zoo.WhereIs, zoo.WhereIsModule)
    with pytest.raises(torch.jit.Error, match=r"cannot send WhereIs.forward.x: a .*meta"):
        holder.forward(torch.ones(1, device="meta"))


def test_without_an_interface(owner):
    functions = instantiate_non_scriptable_remote_module_template()
    holder = Holder(functions, rpc.remote(owner, zoo.LinearEncoder), "cpu")
    x = torch.randn(2, 8)
    assert torch.equal(holder.forward(x, scale=2.0), zoo.LinearEncoder.output(0, x) * 2)
    assert torch.equal(holder.forward_async(x, 1.0).wait(), zoo.LinearEncoder.output(0, x))


# -- what torch's has wrong


def test_the_flag_and_the_dots_make_a_difference():
    interfaces = []
    for path in ("a.b_c", "a_b.c"):
        module, _, name = path.rpartition(".")
        interfaces.append(type(name, (zoo.WhereIs,), {"__module__": module, "__qualname__": name}))
    made = {
        instantiate_scriptable_remote_module_template(interface, moves)
        for interface in interfaces
        for moves in (True, False)
    }
    assert len({functions.__name__ for functions in made}) == 4


def test_once_for_each():
    functions = instantiate_scriptable_remote_module_template(zoo.Encoder)
    assert instantiate_scriptable_remote_module_template(zoo.Encoder, True) is functions
    assert sys.modules[functions.__name__] is functions
    assert pickle.loads(pickle.dumps(functions.forward)) is functions.forward
    assert "def _remote_forward(" in inspect.getsource(functions)


def test_a_failure_leaves_nothing_behind(monkeypatch):
    from torchremote.dropin import instantiator

    class Failing:
        def forward(self, x: Tensor, marker_of_this_test: int) -> Tensor: ...

    def fail(*args, **kwargs):
        raise RuntimeError("no")

    before = set(sys.modules)
    monkeypatch.setattr(instantiator, "script", fail)
    with pytest.raises(RuntimeError):
        instantiate_scriptable_remote_module_template(Failing)
    monkeypatch.undo()
    assert set(sys.modules) == before
    assert instantiate_scriptable_remote_module_template(Failing).forward


def test_a_signature_as_text():
    class Signature:
        def forward(self, x: Tensor, pair: Optional[Pair] = None, *, words: List[str]) -> Tuple[Tensor, int]: ...

    assert get_arg_return_types_from_interface(Signature) == (
        "x, pair, words",
        "x: Tensor, pair: Optional[Pair] = None, words: List[str]",
        "Tuple[Tensor, int]",
    )
    with pytest.raises(InterfaceError, match="NoForward: has no forward, but encode"):
        get_arg_return_types_from_interface(Ordinary.NoForward)


@pytest.mark.parametrize("moves", [True, False])
def test_the_template(moves):
    text = get_remote_module_template(moves)
    module = types.ModuleType("filled")
    statement = "from tests.zoo import Encoder as module_interface_cls"
    exec(text.format(assign_module_interface_cls=statement, args="x", jit_script_decorator=""), vars(module))
    assert module.__name__ == "filled"
    assert module._remote_forward is instantiate_scriptable_remote_module_template(zoo.Encoder, moves)._remote_forward
    assert module.forward in module._generated_methods
