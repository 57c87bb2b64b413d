"""RemoteModule, beyond what torch's does: see test_side_by_side.py for that."""

import collections
import copy
import functools
import gc
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import pytest
import torch
import torch.distributed.nn
import torch.distributed.rpc as rpc
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from torch.testing._internal.two_tensor import TwoTensor

import torchremote
import torchremote as tr
from torchremote import testing
from torchremote.dropin import without_interface
from torchremote.dropin.remote_module import RemoteModule, _RemoteModule
from torchremote.errors import ArgumentError, InterfaceError, PlaceError

from .. import owner_process as remote
from .. import zoo
from ..waiting import hosted, until
from .torch_interface import Scorer, ScorerModule

X = torch.linspace(-1, 1, 16).reshape(2, 8)


class Places(nn.Module):
    """Says on which device each tensor in its arguments came, and returns them."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, *args, **kwargs):
        leaves, _ = torch.utils._pytree.tree_flatten((args, kwargs))
        return [leaf.device.type for leaf in leaves if isinstance(leaf, torch.Tensor)], (args, kwargs)


class PackedPlace(nn.Module):
    def forward(self, sequence):
        return sequence.data.device.type, sequence.batch_sizes.device.type, sequence


Both = collections.namedtuple("Both", "left right")


class Tracked(nn.Module):
    """Counts those that are alive in this process."""

    alive = 0

    def __init__(self):
        super().__init__()
        Tracked.alive += 1

    def __del__(self):
        Tracked.alive -= 1

    def forward(self):
        return Tracked.alive


def tracked():
    return Tracked.alive


def keep_for_a_call(module):
    """On a worker that is sent a remote module: has no garbage collector find it."""
    gc.disable()
    return module.forward()


def after_keeping():
    gc.enable()


@pytest.fixture
def toy():
    from .. import accelerator

    return accelerator


def test_a_method_that_was_assigned_can_be_deleted(owner):
    for module in (
        RemoteModule(owner, Places),
        rpc.rpc_sync(owner, give_back, (RemoteModule(owner, Places),)),
        _RemoteModule(owner, zoo.LinearEncoder, _module_interface_cls=zoo.Encoder),
    ):
        for name in ("forward", "forward_async"):
            before = getattr(module, name)
            with pytest.raises(AttributeError, match=f"^_RemoteModule: no {name} was assigned to it"):
                delattr(module, name)
            setattr(module, name, len)
            assert getattr(module, name) is len
            delattr(module, name)
            assert getattr(module, name) == before
            with pytest.raises(AttributeError):
                delattr(module, name)


class Unreadable:
    """Is pickled, and raises when it is read."""

    def __reduce__(self):
        return int, ("unreadable",)


def test_a_call_that_cannot_be_read_keeps_no_module(owner):
    module = RemoteModule("caller", Tracked)
    assert module.forward() == 1
    for _ in range(2):
        with pytest.raises(Exception, match="invalid literal for int"):
            module.forward(Unreadable())
    assert module.forward() == 1
    until(lambda: not without_interface._Own._kept)
    del module
    until(lambda: Tracked.alive == 0)


def test_tensors_move_however_deep_they_are(owner, toy):
    module = RemoteModule(f"{owner}/toy:0", Places)
    sent = (X[0], [X[1], (X, 1)]), {"a": {"b": Both(X, "s")}, "c": None}
    devices, received = module(*sent[0], **sent[1])
    assert devices == ["toy"] * 4
    assert testing.same(received, sent)
    devices, _ = RemoteModule(owner, Places)(*sent[0], **sent[1])
    assert devices == ["cpu"] * 4


def test_what_has_a_tensor_that_stays_on_the_cpu(owner, toy):
    sequence = pack_sequence([X[0], X[1, :3]])
    data, batch_sizes, received = RemoteModule(f"{owner}/toy:0", PackedPlace)(sequence)
    assert (data, batch_sizes) == ("toy", "cpu")
    assert testing.same(tuple(received), tuple(sequence))


HURTING = {
    "nested": lambda: torch._nested_tensor_from_tensor_list([X[0], X[0, :1]]),
    "mkldnn": lambda: X.to_mkldnn(),
    "freed": lambda: freed(X.clone()),
    "functional": lambda: torch._to_functional_tensor(X),
    "meta": lambda: X.to("meta"),
}


def freed(tensor):
    tensor.untyped_storage().resize_(0)
    return tensor


class Hurting(nn.Module):
    def forward(self, kind):
        return {"it": HURTING[kind]()}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("kind", HURTING)
def test_tensors_that_would_end_a_process_are_refused(owner, kind):
    with pytest.raises(ArgumentError, match=r"RemoteModule\.forward\.args\[0\]\['a'\]: "):
        RemoteModule(owner, Places)({"a": HURTING[kind]()})
    with pytest.raises(RuntimeError, match=r"RemoteModule\.forward\.return\['it'\]: "):
        RemoteModule(owner, Hurting)(kind)


class Box:
    def __init__(self, it):
        self.it = it


INSIDE = {
    "object": Box,
    "set": lambda tensor: {tensor},
    "key": lambda tensor: {tensor: 1},
    "subclass of dict": lambda tensor: collections.Counter({"a": tensor}),
    "error": ValueError,
    "partial": lambda tensor: functools.partial(Box, tensor),
    "CSR": lambda tensor: shrunk_csr(),
    "subclass of tensors": lambda tensor: TwoTensor(tensor, tensor),
}


def shrunk():
    tensor = torch.ones(2)
    tensor.untyped_storage().resize_(4)
    return tensor


def shrunk_csr():
    tensor = torch.eye(2).to_sparse_csr()
    tensor.values().untyped_storage().resize_(4)
    return tensor


class Inside(nn.Module):
    def __init__(self, value=None):
        super().__init__()

    def forward(self, kind):
        return [INSIDE[kind](shrunk())] if isinstance(kind, str) else 1


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("kind", INSIDE)
def test_tensors_in_objects_that_would_end_a_process_are_refused(owner, kind):
    module, value = RemoteModule(owner, Inside), INSIDE[kind](shrunk())
    with pytest.raises(ArgumentError, match=r"RemoteModule\.forward\.args\[0\].*out of bounds for storage"):
        module(value)
    with pytest.raises(RuntimeError, match=r"RemoteModule\.forward\.return\[0\].*out of bounds for storage"):
        module(kind)
    with pytest.raises(ArgumentError, match=r"RemoteModule\.args\[0\].*out of bounds for storage"):
        RemoteModule(owner, Inside, args=(value,))
    assert module(1) == 1  # both go on


@pytest.mark.parametrize("make", [shrunk, lambda: Box(shrunk()), lambda: torch.eye(2).to_mkldnn(), HURTING["nested"]])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_tensors_for_a_module_that_is_created_are_checked(owner, make):
    linear = owner, zoo.Encoder, zoo.LinearEncoder
    for where, create in {
        r"args\[0\]": lambda: tr.create(*linear, args=(make(),)),
        r"kwargs\['seed'\]": lambda: tr.create(*linear, kwargs={"seed": make()}),
        r"module 0: args\[0\]": lambda: tr.create_many([owner], *linear[1:], args=[(make(),)]),
        "module_cls": lambda: tr.create(owner, zoo.Encoder, functools.partial(zoo.LinearEncoder, make())),
    }.items():
        with pytest.raises(ArgumentError, match=f"^{where}"):
            create()
    with pytest.raises(ArgumentError):
        tr.create(*linear, examples={"forward": (make(),), "topk": (torch.ones(1, 8),)})


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support", "ignore:torch.quantize_per_tensor")
def test_other_layouts_are_sent(owner):
    sent = [X.to_sparse(), X.to_sparse_csr(), torch.quantize_per_tensor(X, 1.0, 0, torch.qint8), X[:0], X[2:]]
    assert RemoteModule(owner, Totals)(sent) == [total(part) for part in sent]


def total(part):
    return (part.dequantize() if part.is_quantized else part.to_dense()).sum().item()


class Totals(nn.Module):
    def forward(self, parts):
        return [total(part) for part in parts]


def test_a_sparse_result(owner):
    _, ((received,), _) = RemoteModule(owner, Places)(X.to_sparse())
    assert torch.equal(received.to_dense(), X)


def test_a_scripted_one_moves_them_too(owner, toy):
    module = _RemoteModule(f"{owner}/toy:0", zoo.WhereIsModule, _module_interface_cls=zoo.WhereIs)
    assert module(X) == "toy"
    assert module.device == "toy:0"


def test_all_methods_of_an_interface(owner):
    module = _RemoteModule(owner, zoo.LinearEncoder, _module_interface_cls=zoo.Encoder)
    assert torch.equal(module(X, scale=2.0), zoo.LinearEncoder.output(0, X) * 2)
    assert testing.same(module.topk(X, k=3), tuple(X.topk(3)))
    names = [method.__name__ for method in module.generated_methods]
    assert names[:4] == ["fail_async", "fail", "forward_async", "forward"]


def test_an_interface_without_forward(owner):
    module = _RemoteModule(owner, zoo.CountersModule, _module_interface_cls=zoo.Counters)
    assert module.count({"a": 1}) == [("a", 1)]
    with pytest.raises(AttributeError, match="forward"):
        module.forward({"a": 1})


class OwnInterface(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_a_module_class_is_an_interface_too(owner):
    """And can still be scripted."""
    module = _RemoteModule(owner, OwnInterface, _module_interface_cls=OwnInterface)
    assert torch.equal(torch.jit.script(OwnInterface())(X), module(X))


def test_one_with_a_name_is_saved(owner, tmp_path):
    module = _RemoteModule(owner, zoo.LinearEncoder, _module_interface_cls=zoo.Encoder, name="drop-in")
    try:
        torch.jit.save(module, tmp_path / "module.pt")
        assert torch.equal(tr.load(tmp_path / "module.pt")(X), module(X))
        assert torch.equal(tr.connect(owner, zoo.Encoder, "drop-in")(X), module(X))
    finally:
        rpc.rpc_sync(owner, tr.withdraw, ("drop-in",))


def test_what_follows_from_one_is_one(owner):
    module = _RemoteModule(owner, zoo.LinearEncoder, _module_interface_cls=zoo.Encoder)
    for other in (tr.with_timeout(module, 5.0), rpc.rpc_sync(owner, give_back, (module,))):
        assert isinstance(other, _RemoteModule)
        assert len(other.remote_parameters()) == 2
        assert torch.equal(other(X), module(X))


def give_back(module):
    return module


class Mine(_RemoteModule):
    def __init__(self, owner, interface=None):
        super().__init__(owner, zoo.LinearEncoder, _module_interface_cls=interface)

    def double(self, x):
        return self.forward(x, 2.0)


@pytest.mark.parametrize("interface", [None, zoo.Encoder])
def test_a_class_of_the_users(owner, interface):
    mine = Mine(owner, interface)
    assert isinstance(mine, Mine)
    assert torch.equal(mine.double(X), zoo.LinearEncoder.output(0, X) * 2)


class Overriding(_RemoteModule):
    def __init__(self, owner, interface=None):
        super().__init__(owner, zoo.LinearEncoder, _module_interface_cls=interface)
        self.factor = 3.0

    def forward(self, x):
        return super().forward(x, 2.0) * self.factor


@pytest.mark.parametrize("interface", [None, zoo.Encoder])
def test_a_class_that_overrides_forward(owner, interface):
    module = Overriding(owner, interface)
    expected = zoo.LinearEncoder.output(0, X) * 6
    assert torch.equal(module(X), expected)
    assert torch.equal(module.forward_async(X, 1.0).wait() * 6, expected)
    if interface is not None:
        for other in (copy.deepcopy(module), tr.with_timeout(module, 5), rpc.rpc_sync(owner, give_back, (module,))):
            assert torch.equal(other(X), expected)


@pytest.mark.parametrize("interface", [None, zoo.Encoder])
def test_forward_may_be_replaced(owner, interface, monkeypatch):
    module = _RemoteModule(owner, zoo.LinearEncoder, _module_interface_cls=interface)
    before = module(X, 1.0)
    with monkeypatch.context() as patched:
        patched.setattr(module, "forward", lambda x: "mine")
        assert module(X) == "mine"
    assert torch.equal(module(X, 1.0), before)


def test_names_that_would_hide_a_remote_modules_own(owner):
    def device(self) -> str: ...
    def remote(self) -> str: ...

    for name, method in (("device", device), ("remote_parameters", remote)):
        interface = type("Hiding", (), {name: method})
        with pytest.raises(InterfaceError, match=f"Hiding.{name}: a RemoteModule has a {name} of its own; rename it"):
            _RemoteModule(owner, zoo.LinearEncoder, _module_interface_cls=interface)


asked_early = threading.Event()


class Awaited(nn.Module):
    """Is made when it has been asked something."""

    def __init__(self):
        super().__init__()
        assert asked_early.wait(10)

    def forward(self, x):
        return x + 1


def ask_early(ask, *given):
    """Calls `ask` on the owner, for a module that is being made. It is made when the question has arrived there."""

    def arriving(function):
        def call(*args, **kwargs):
            asked_early.set()
            return function(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patched:
        for name in ("_remote_forward", "referenced"):  # they wait until the module is made
            patched.setattr(without_interface, name, arriving(getattr(without_interface, name)))
        try:
            return ask(*given)
        finally:
            asked_early.clear()


def test_a_received_one_is_called_while_it_is_created(owner):
    arguments = (nn.Module.__call__, RemoteModule(owner, Awaited), torch.ones(2))
    assert rpc.rpc_sync(owner, ask_early, arguments, timeout=20).tolist() == [2, 2]
    arguments = (RemoteModule.remote_parameters, RemoteModule(owner, Awaited))
    assert rpc.rpc_sync(owner, ask_early, arguments, timeout=20) == []


def test_threads_that_call_a_received_one_first(owner):
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(30):
            module = rpc.rpc_sync(owner, give_back, (RemoteModule(owner, Tracked),))
            with ThreadPoolExecutor(6) as pool:
                list(pool.map(lambda _: module(), range(6)))
    finally:
        sys.setswitchinterval(interval)


def test_what_cannot_be_pickled_leaves_nothing_behind(owner):
    before = rpc.rpc_sync(owner, tracked)
    module = RemoteModule(owner, Tracked)
    with pytest.raises((TypeError, AttributeError), match="pickle|local object"):
        module.forward(lambda: 1)
    with pytest.raises((TypeError, AttributeError), match="pickle|local object"):
        module.forward(key=lambda: 1)
    del module
    until(lambda: rpc.rpc_sync(owner, tracked) == before)


def test_two_for_one_module(owner):
    first = RemoteModule(owner, ScorerModule)
    second = RemoteModule.init_from_module_rref(owner, first.get_module_rref(), Scorer)
    x = X[:, :3]
    assert testing.same(second(x), first(x, 2))
    tr.at_owner(second).load_state_dict({"linear.weight": torch.zeros(3, 3)}, strict=False)
    assert testing.same(second(x), first(x, 2))
    third = _RemoteModule.init_from_module_rref(owner, second.get_module_rref(), Scorer)
    assert testing.same(third(x), first(x, 2))


def test_a_module_from_a_reference_stays_where_it_is(owner, toy):
    rref = RemoteModule(f"{owner}/toy:0", zoo.LinearEncoder).get_module_rref()
    module = RemoteModule.init_from_module_rref(f"{owner}/toy:0", rref, zoo.Encoder)
    assert module.device == "toy:0"
    assert torch.allclose(module(X), zoo.LinearEncoder.output(0, X))


def test_the_remote_module_goes_with_the_last_one(owner):
    gc.collect()
    before = rpc.rpc_sync(owner, tracked), hosted(owner)
    gc.disable()  # nothing here waits for it
    try:
        module = RemoteModule(owner, Tracked)
        assert module() == before[0] + 1
        scripted = _RemoteModule(owner, zoo.LinearEncoder, _module_interface_cls=zoo.Encoder)
        scripted(X)
        del module, scripted
        until(lambda: rpc.rpc_sync(owner, tracked) == before[0])
        until(lambda: rpc.rpc_sync(owner, remote.hosted_here) <= before[1])
    finally:
        gc.enable()


def test_a_received_one_needs_no_collector_either(owner):
    before = rpc.rpc_sync(owner, tracked)
    module = RemoteModule(owner, Tracked)
    try:
        assert rpc.rpc_sync(owner, keep_for_a_call, (module,)) == before + 1
        del module
        until(lambda: rpc.rpc_sync(owner, tracked) == before)
    finally:
        rpc.rpc_sync(owner, after_keeping)


class MinePlain(RemoteModule):
    """A class of the user's."""


def test_it_is_an_instance_of_torchs(owner):
    """Libraries ask for it; torch's own class stays as it is."""
    theirs = torch.distributed.nn.RemoteModule
    module = RemoteModule(owner, ScorerModule)
    for one in (
        module,
        MinePlain(owner, ScorerModule),
        rpc.rpc_sync(owner, give_back, (module,)),
        RemoteModule.init_from_module_rref(owner, module.get_module_rref()),
        RemoteModule.init_from_module_rref(owner, module.get_module_rref(), Scorer),
    ):
        assert isinstance(one, theirs)
        assert torch.equal(one(X[:, :3], 2)[0], module(X[:, :3], 2)[0])
    assert issubclass(RemoteModule, theirs)
    assert not isinstance(nn.Linear(1, 1), theirs)
    assert not issubclass(theirs, RemoteModule)
    assert theirs.__module__ == "torch.distributed.nn.api.remote_module"


def test_nothing_of_torchs_class_is_left_uncovered():
    """What torch's class defines, ours does; but for its own helpers."""
    theirs = torch.distributed.nn.RemoteModule.__mro__[1]
    defined = {name for name in vars(theirs) if callable(getattr(theirs, name))} - {"__new__"}
    helpers = {"_prepare_init", "_init_template", "_check_attribute_picklability", "_install_generated_methods"}
    assert defined - helpers <= set(vars(_RemoteModule))


def test_a_name_is_for_an_interface(owner):
    with pytest.raises(ArgumentError, match="name, in_turn: only for modules with an interface"):
        _RemoteModule(owner, ScorerModule, name="n", in_turn=True)


def test_a_device_is_no_place(owner):
    with pytest.raises(PlaceError, match="remote_device='cpu': names no worker; write 'worker/cpu'"):
        RemoteModule("cpu", ScorerModule)


def test_a_model_with_remote_parts(owner):
    """What torch's refuses to a model that has one in it."""
    for part in (
        RemoteModule(owner, ScorerModule),
        _RemoteModule(owner, ScorerModule, _module_interface_cls=Scorer),
        rpc.rpc_sync(owner, give_back, (RemoteModule(owner, ScorerModule),)),
    ):
        model = nn.ModuleDict({"remote": part, "local": nn.Linear(3, 3)})
        assert len(list(model.parameters())) == 2
        assert not any(isinstance(module, _RemoteModule) for module in model.modules())
        state = model.state_dict()
        assert list(state) == ["local.weight", "local.bias"]
        assert str(model.load_state_dict(state)) == "<All keys matched successfully>"
        model.to(torch.float64)
        assert model["local"].weight.dtype == torch.float64
        model.eval()
        assert not part.training
        model.zero_grad()
        model.requires_grad_(False)
        assert "owner/cpu" in repr(model)
        with pytest.raises(ValueError, match="``apply`` not supported"):
            model.apply(print)


def test_the_path_of_the_readme_is_an_attribute():
    with mock.patch("torchremote.remote_module._RemoteModule") as patched:
        assert torchremote.remote_module._RemoteModule is patched
