"""RemoteModule, beyond what torch's does: see test_side_by_side.py for that."""

import collections
import gc

import pytest
import torch
import torch.distributed.rpc as rpc
from torch import nn
from torch.nn.utils.rnn import pack_sequence

import torchremote as tr
from torchremote import testing
from torchremote.errors import ArgumentError, PlaceError
from torchremote.remote_module import RemoteModule, _RemoteModule

from . import owner as remote
from . import zoo
from .torch_interface import Scorer, ScorerModule
from .waiting import hosted, until

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
    from . import accelerator

    return accelerator


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
        until(lambda: rpc.rpc_sync(owner, remote.count_hosted) == before[1])
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


def test_a_name_is_for_an_interface(owner):
    with pytest.raises(ArgumentError, match="name='n' is for modules with an interface"):
        _RemoteModule(owner, ScorerModule, name="n")


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
