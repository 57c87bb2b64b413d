"""What a stub does of torch.nn.Module: by itself, and as a part of a model."""

import contextlib
import copy
import gc
import threading
import weakref

import pytest
import torch
import torch.distributed.autograd as dist_autograd
import torch.distributed.rpc as rpc
import torch.fx
from torch import Tensor, nn
from torch.nn.parallel import replicate

import torchremote as tr
from torchremote import native
from torchremote.caller.stubs import as_module, shared_mode
from torchremote.caller.stubs.stub import Stub
from torchremote.dropin import remote_module
from torchremote.errors import ArgumentError, StaleStubError, StubError

from .. import zoo

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
X = torch.ones(2, 8)


@tr.remote_scriptable
class Dropping:
    def forward(self, x: Tensor) -> Tensor: ...


class Drop(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.drop = nn.Dropout(1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.linear(x))


def drops(stub):
    return bool((stub(X) == 0).all())


@pytest.fixture
def stub(owner):
    return tr.create(owner, Dropping, Drop)


def made_in_evaluation():
    return Drop().eval()


def test_a_mode_reaches_the_module(stub):
    assert stub.training
    assert drops(stub)
    assert stub.eval() is stub
    assert not stub.training
    assert not drops(stub)
    assert stub.train() is stub
    assert stub.training
    assert drops(stub)
    assert stub.train(False) is stub
    assert not drops(stub)
    with pytest.raises(ValueError, match="True or False"):
        stub.train("no")


def test_a_stub_knows_the_mode_at_first_and_shares_it(owner):
    stub = tr.create(owner, Dropping, made_in_evaluation, name="modes")
    try:
        assert not stub.training
        other = tr.connect(owner, Dropping, "modes")
        assert not other.training
        copied, timed = copy.copy(stub), tr.with_timeout(stub, 5)
        tr.at_owner(other).train()
        assert all(one.training for one in (stub, other, copied, timed))
        assert tr.connect(owner, Dropping, "modes").training
        assert rpc.rpc_sync(owner, mode_of, (stub,))
        remote = remote_module._RemoteModule(owner, Drop, _module_interface_cls=Dropping)
        assert remote.training
        assert remote.eval() is remote
        assert not remote.training
        assert not drops(remote)
    finally:
        rpc.rpc_sync(owner, tr.withdraw, ("modes",))


def mode_of(stub):
    return stub.training


def test_setting_the_attribute_is_refused(stub):
    with pytest.raises(StubError, match=r"Dropping: training = False: .* call its train\(False\)"):
        stub.training = False
    assert stub.training


def test_what_torch_compile_gives_of_a_stub_hands_its_mode_down(stub, counted):
    compiled = torch.compile(stub, backend="eager")
    model = nn.Sequential(compiled, nn.Dropout(), tr.create("owner", Dropping, Drop))
    for mode in (False, True):
        counted.clear()
        model.train(mode)
        assert [part.training for part in (stub, *model)] == [mode] * 4
        assert len(counted) == 1
        assert drops(stub) is mode
    assert compiled.eval() is compiled
    assert not drops(stub)
    with pytest.raises(StubError, match=r"call its train\(True\)"):
        compiled.training = True


@pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace")
def test_a_graph_without_breaks_says_that_a_remote_call_has_none(stub):
    calls = {
        "forward": lambda x: stub(x) + 1,
        "forward_async": lambda x: stub.forward_async(x).wait(),
        "forward_many": lambda x: stub.forward_many([(x,)])[0],
    }
    for name, call in calls.items():
        with pytest.raises(Exception, match=f"Dropping.{name}: a remote call has no graph; call it outside"):
            torch.compile(call, backend="eager", fullgraph=True)(X)
    with pytest.raises(Exception, match=r"Dropping.forward: a remote call has no graph; call it outside"):
        torch.export.export(nn.Sequential(nn.ReLU(), stub), (X,), strict=True)
    stub.eval()
    assert torch.equal(torch.compile(lambda x: stub(x) + 1, backend="eager")(X), stub(X) + 1)


def test_what_data_parallel_makes_of_a_stub_is_one(stub):
    stub.label = "mine"
    for copied in replicate(nn.Sequential(stub.eval(), nn.ReLU()), [0, 1]):
        assert isinstance(copied[0], Stub)
        assert copied[0].label == "mine"
        assert torch.equal(copied(X), stub(X).relu())


class Model(nn.Module):
    def __init__(self, *stubs):
        super().__init__()
        self.local = nn.Linear(8, 8)
        self.inner = nn.Sequential(nn.Dropout(), *stubs)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.local(x))


@pytest.fixture
def counted(monkeypatch):
    """The messages with which modes are set."""
    messages = []
    asking = as_module.ask

    def ask(worker, where, function, *args, **kwargs):
        messages.append((function.__name__, len(args[0])))
        return asking(worker, where, function, *args, **kwargs)

    monkeypatch.setattr(as_module, "ask", ask)
    return messages


def test_the_mode_of_a_model_reaches_its_stubs_in_one_message(owner, counted):
    stubs = tr.create_many([owner] * 50, Dropping, Drop)
    model = nn.Sequential(Model(*stubs[:20]), Model(*stubs[20:]))
    model.eval()
    assert counted == [("train_many_here", 50)]
    assert not any(drops(stub) or stub.training for stub in stubs)
    assert not model[0].inner[0].training
    model.train()
    assert counted == [("train_many_here", 50)] * 2
    assert all(drops(stub) and stub.training for stub in stubs)
    model[0].eval()
    assert counted[2:] == [("train_many_here", 20)]
    assert [drops(stub) for stub in stubs] == [False] * 20 + [True] * 30
    model.eval()
    tr.at_owner(stubs[0]).train()  # as another caller might
    model.eval()
    assert not drops(stubs[0])


class Holding(nn.Module):
    part: Dropping

    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return self.part.forward(x)


def test_the_mode_of_a_scripted_model_reaches_its_stubs(stub):
    scripted = torch.jit.script(Holding(stub))
    scripted.eval()
    assert not drops(scripted)
    scripted.train()
    assert drops(scripted)


class Nesting(nn.Module):
    def __init__(self, *stubs):
        super().__init__()
        self.own = nn.Dropout()
        self.first = Holding(stubs[0])
        self.inner = nn.ModuleDict({"all": nn.ModuleList([Holding(stub) for stub in stubs])})

    def forward(self, x: Tensor) -> Tensor:
        for part in self.inner["all"]:
            x = part(x)
        return x


def test_a_copy_of_a_scripted_model_has_its_stubs(owner, stub):
    for scripted in (
        torch.jit.script(Holding(stub)),
        torch.jit.script(Nesting(stub, tr.create(owner, Dropping, Drop))),
    ):
        copied = copy.copy(copy.copy(scripted))
        stubs = [part for part in copied.modules() if isinstance(part, Stub)]
        assert stubs == [part for part in scripted.modules() if isinstance(part, Stub)]
        copied.eval()
        assert not drops(stub)
        assert not any(part.training for part in copied.modules())
        assert [sorted(part.state_dict()) for part in stubs] == [["linear.bias", "linear.weight"]] * len(stubs)
        assert torch.equal(copied(X), scripted(X))
        copied.train()
        assert [drops(one) for one in (scripted, stub)] == [True, True]


class Frozen(nn.Module):
    """As models that keep a part in evaluation."""

    def __init__(self, frozen, other):
        super().__init__()
        self.frozen, self.other = frozen, other

    def train(self, mode=True):
        super().train(mode)
        self.frozen.eval()
        return self


def test_a_model_may_keep_a_stub_in_evaluation(owner):
    frozen, other = tr.create_many([owner] * 2, Dropping, Drop)
    nn.Sequential(Frozen(frozen, other)).train()
    assert not drops(frozen)
    assert drops(other)
    assert not frozen.training
    assert other.training


class StaysInEvaluation(nn.Module):
    def __init__(self, part):
        super().__init__()
        self.part = part

    def train(self, mode=True):
        return super().train(False)


class KeepsItsMode(StaysInEvaluation):
    def train(self, mode=True):
        return self


@pytest.mark.parametrize("kind", [StaysInEvaluation, KeepsItsMode])
def test_a_part_with_a_train_of_its_own_decides_for_its_stubs(kind, owner):
    first, frozen, last = tr.create_many([owner] * 3, Dropping, Drop)
    frozen.eval()
    model = nn.Sequential(first, kind(frozen), last)
    model.train()
    assert [drops(first), drops(frozen), drops(last)] == [True, False, True]
    model.eval()
    model.train()
    assert [stub.training for stub in (first, frozen, last)] == [True, False, True]


class Failing(nn.Module):
    def train(self, mode=True):
        raise RuntimeError("no")


def test_setting_the_mode_keeps_no_model_alive(owner):
    one, other = tr.create_many([owner] * 2, Dropping, Drop)
    twice = nn.Sequential(nn.Sequential(one), nn.Sequential(other), nn.Sequential(one), KeepsItsMode(other))
    failing = nn.Sequential(nn.Sequential(one), Failing(), nn.Sequential(other))
    with pytest.raises(RuntimeError, match="no"):
        failing.train()
    twice.eval()
    kept = [weakref.ref(twice), weakref.ref(failing)]
    del twice, failing
    gc.collect()
    assert [ref() for ref in kept] == [None, None]
    assert not one.training


def test_a_prefix_stands_before_the_names_of_a_state(stub):
    assert sorted(stub.state_dict(prefix="encoder.")) == ["encoder.linear.bias", "encoder.linear.weight"]
    with pytest.raises(StubError, match=r"state_dict\(keep_vars=True\)"):
        stub.state_dict(keep_vars=True)
    assert nn.Sequential(stub).state_dict() == {}


def test_a_stub_has_no_parts_here(stub):
    with pytest.raises(StubError, match=r"Dropping: more = Linear.*module of your own"):
        stub.more = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="True or False"):
        tr.at_owner(stub).train(1)


def test_a_model_with_a_lost_module_says_so(owner):
    stub = tr.create(owner, Dropping, Drop, name="lost")
    rpc.rpc_sync(owner, tr.withdraw, ("lost",))
    with pytest.raises(StaleStubError, match="train on owner"):
        Model(stub).eval()


def test_no_frame_is_kept(stub):
    model = Model(stub)
    model.eval()
    gone = []

    class Watched:
        def __del__(self):
            gone.append(True)

    model.watched = Watched()
    del model
    gc.collect()
    assert gone


def test_state_and_gradients_reach_the_module(owner, stub):
    state = stub.state_dict()
    assert set(state) == {"linear.weight", "linear.bias"}
    stub.load_state_dict({name: torch.ones_like(value) for name, value in state.items()})
    stub.eval()
    assert torch.equal(stub(X), torch.full((2, 8), 9.0))
    assert stub.load_state_dict({}, strict=False).missing_keys == ["linear.weight", "linear.bias"]
    assert stub.requires_grad_(False) is stub
    assert rpc.rpc_sync(owner, requires_grad, (tr.at_owner(stub).parameters()[0],)) is False
    stub.zero_grad()
    with pytest.raises(StubError, match="set_to_none"):
        stub.zero_grad(set_to_none=False)
    with pytest.raises(StubError, match="assign"):
        stub.load_state_dict(state, assign=True)


def requires_grad(rref):
    return rref.local_value().requires_grad


def test_a_model_is_asked_for_its_other_parts(stub):
    model = Model(stub)
    names = ["local.weight", "local.bias"]
    assert [name for name, _ in model.named_parameters()] == names
    assert len(list(model.parameters())) == 2
    assert list(model.state_dict()) == names
    model.load_state_dict(model.state_dict())
    assert list(model.named_buffers()) == []
    assert [type(part).__name__ for part in model.modules()][-1] == "DroppingStub"
    model.half().float().to("cpu").double()
    assert model.local.weight.dtype == torch.float64
    seen = []
    model.apply(seen.append)
    assert stub not in seen
    assert model.local in seen
    model.requires_grad_(False)
    model.zero_grad()
    for part in model.modules():  # as DistributedDataParallel asks
        list(part.named_parameters(recurse=False))
        list(part.buffers(recurse=False))
    assert stub.state_dict()["linear.weight"].dtype == torch.float32
    copied = copy.deepcopy(model)
    assert isinstance(copied.inner[1], Stub)


INHERITED = {
    "to": ("cpu",),
    "cpu": (),
    "cuda": (),
    "half": (),
    "float": (),
    "double": (),
    "bfloat16": (),
    "type": (torch.half,),
    "to_empty": (),
    "share_memory": (),
    "compile": (),
    "apply": (print,),
    "parameters": (),
    "named_parameters": (),
    "buffers": (),
    "named_buffers": (),
    "get_parameter": ("weight",),
    "get_buffer": ("weight",),
    "add_module": ("part", None),
    "register_module": ("part", None),
    "register_parameter": ("weight", None),
    "register_buffer": ("weight", None),
    "set_submodule": ("part", None),
    "register_forward_hook": (print,),
    "register_forward_pre_hook": (print,),
    "register_full_backward_hook": (print,),
    "register_state_dict_post_hook": (print,),
    "_register_state_dict_hook": (print,),
    "_register_load_state_dict_pre_hook": (print,),
    "get_submodule": ("linear",),
    "get_extra_state": (),
    "get_debug_state": (),
}


@pytest.mark.parametrize("name", INHERITED)
def test_what_cannot_reach_says_what_to_write(stub, name):
    with pytest.raises(StubError, match=f"Dropping on owner: {name}: .*is a stub of it; "):
        getattr(stub, name)(*INHERITED[name])


@pytest.mark.parametrize("name", as_module.REMEDIES)
def test_every_remedy_is_given(stub, name):
    with pytest.raises(StubError, match="is a stub of it; "):
        getattr(stub, name)()


REACHING = "train eval requires_grad_ zero_grad state_dict load_state_dict"
# True of the stub itself, or asked by torch for a model's sake.
LOCAL = (
    "T_destination call_super_init children code code_with_constants dump_patches extra_repr forward "
    "forward_magic_method set_extra_state graph graph_for "
    "inlined_graph modules named_children named_modules original_name save save_to_buffer"
)


def test_nothing_that_is_inherited_does_nothing():
    public = {name for name in dir(Stub) if not name.startswith("_")}
    public.discard(torch._C._get_privateuse1_backend_name())  # torch adds it for a backend, as that of other tests
    refused = {*INHERITED, *as_module.REMEDIES}
    assert public - {*REACHING.split(), *LOCAL.split(), *refused} == set()


def test_a_stub_is_no_container(stub):
    for use in (len, iter, lambda one: one[0], lambda one: 1 in one):
        with pytest.raises(StubError, match="Dropping on owner: __.*__: .*; declare a method in the interface that"):
            use(stub)
    assert bool(stub)


def test_attributes_of_ones_own_stay_here_and_travel(owner, stub):
    stub.label = "mine"
    assert copy.copy(stub).label == "mine"
    assert rpc.rpc_sync(owner, label_of, (stub,)) == "mine"


def label_of(stub):
    return stub.label


def zero(x):
    return x * 0


def test_a_function_in_the_place_of_a_method_is_copied(owner, stub):
    stub.forward = stub.forward_many = zero
    for one in (stub, copy.copy(stub), copy.deepcopy(stub), tr.with_timeout(stub, 5)):
        assert torch.equal(one(X), 0 * X)
        assert one.forward_many is zero
    assert rpc.rpc_sync(owner, calls_zero, (stub,))


def calls_zero(stub):
    return torch.equal(stub(X), 0 * X)


def test_an_attribute_may_lead_back_to_the_stub(stub):
    stub.pair = (stub,)
    copied = copy.deepcopy(stub)
    assert copied.pair[0] is copied
    del stub.pair


def test_the_mode_is_not_deleted(stub):
    with pytest.raises(StubError, match=r"Dropping: del training: .*call its train\(\) or eval\(\)"):
        del stub.training
    assert stub.training


def test_global_hooks_of_backward_leave_calls_alone(stub):
    stub.eval()
    expected, seen = stub(X), []
    hooks = [
        nn.modules.module.register_module_full_backward_hook(lambda module, *_: seen.append(type(module).__name__)),
        nn.modules.module.register_module_full_backward_pre_hook(lambda module, *_: None),
    ]
    try:
        assert torch.equal(stub(X), expected)
        assert torch.equal(nn.Sequential(stub)(X), expected)
        x = X.clone().requires_grad_()
        with dist_autograd.context() as context:
            dist_autograd.backward(context, [stub(x).sum()])
    finally:
        for hook in hooks:
            hook.remove()
    assert seen == ["DroppingStub"]


def test_torch_fx_says_how_a_model_is_traced(stub):
    with pytest.raises(ArgumentError, match="while torch.fx traces, .* is_leaf_module returns True"):
        torch.fx.symbolic_trace(nn.Sequential(stub))

    class Tracer(torch.fx.Tracer):
        def is_leaf_module(self, module, name):
            return isinstance(module, Stub) or super().is_leaf_module(module, name)

    model = nn.Sequential(stub.eval(), nn.ReLU())
    traced = torch.fx.GraphModule(model, Tracer().trace(model))
    assert torch.equal(traced(X), model(X))


@pytest.mark.parametrize(
    "call",
    [
        lambda stub, x: stub(x),
        lambda stub, x: stub.forward_async(x).wait(),
        lambda stub, x: stub.forward_many([(x,)])[0],
        lambda stub, x: stub.forward_remote(x).to_here(),
    ],
)
def test_what_a_trace_cannot_record_says_what_to_do(stub, call):
    with pytest.raises(StubError, match="DroppingStub: torch.jit.trace records no call of .*; script the model, with"):
        torch.jit.trace(lambda x: call(stub, x), (X,))
    assert stub(X) is not None


def test_a_stub_that_is_hosted_relays(owner):
    inner = tr.create(owner, zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": 4})
    relay = tr.create(owner, zoo.Encoder, relayed, args=(inner,))
    assert torch.equal(relay(X), zoo.LinearEncoder.output(4, X))
    for ask in (
        relay.state_dict,
        lambda: relay.load_state_dict(inner.state_dict()),
        lambda: tr.at_owner(relay).zero_grad(),
        lambda: tr.at_owner(relay).checkpoint("/tmp/never.pt"),
        lambda: relay.requires_grad_(False),
    ):
        with pytest.raises(tr.errors.ArgumentError, match="itself a stub, of a module on owner, which has the state"):
            ask()


def relayed(stub):
    return stub


def test_a_model_sets_the_modes_of_modules_that_were_served_again(owner):
    first, second = (tr.create(owner, Dropping, Drop, name=name) for name in ("first", "second"))
    try:
        tr.withdraw("first", owner)
        tr.create(owner, Dropping, Drop, name="first")
        nn.Sequential(first, second).eval()
        assert not first.training
        assert not second.training
        assert not tr.connect(owner, Dropping, "first").training
        assert not drops(first)
        assert not drops(second)
    finally:
        tr.withdraw("first", owner)
        tr.withdraw("second", owner)


@pytest.fixture
def served_again(owner):
    """Creates a module named "again", and a function that has another one served under that name."""
    stub = tr.create(owner, Dropping, Drop, name="again")

    def again(*args, **kwargs):
        tr.withdraw("again", owner)
        return tr.create(owner, Dropping, *(args or (Drop,)), name="again", **kwargs)

    yield stub, again
    tr.withdraw("again", owner)


def test_a_mode_that_was_set_here_is_that_of_the_next_module_of_the_name(served_again, owner):
    stub, again = served_again
    copied, model, scripted = copy.copy(stub), nn.Sequential(stub).eval(), torch.jit.script(Holding(copy.copy(stub)))
    ways = [model, lambda x: stub.forward_async(x).wait(), copied, lambda x: stub.forward_many([(x,)])[0]]
    if native.available():
        ways.append(scripted)
    for way in ways:
        new = again()
        assert new.training
        with contextlib.suppress(StaleStubError):  # one that was sent, without the native part
            way(X)
        assert bool((way(X) != 0).any())
        assert not drops(stub)
        assert not drops(copied)
        assert [one.training for one in (stub, copied, tr.connect(owner, Dropping, "again"))] == [False] * 3
        new.train()  # it is this process's again, set after the other one
        assert drops(stub)
        assert stub.training
        stub.eval()


def test_a_mode_that_nobody_set_here_is_the_modules_own(served_again, owner):
    stub, again = served_again
    again(made_in_evaluation)
    assert not drops(stub)
    assert not stub.training
    rpc.rpc_sync(owner, set_mode, (tr.connect(owner, Dropping, "again"), True))
    again(made_in_evaluation)
    assert not drops(stub)


def set_mode(stub, mode):
    stub.train(mode)


def test_reconnect_warns_that_a_mode_that_was_set_here_is_lost(served_again, caplog):
    stub, again = served_again
    again()
    stub = tr.reconnect(stub)
    assert not caplog.records
    stub.eval()
    again()
    tr.reconnect(stub)
    assert "'again' on owner is in training mode, and its stub in the other one" in caplog.text


def exported_in_training():
    return tr.exported(Drop(), Dropping, {"forward": (X,)})


def test_a_module_that_refuses_the_mode_is_followed_all_the_same(served_again, caplog):
    stub, again = served_again
    stub.eval()
    again(exported_in_training)
    assert drops(stub)
    assert stub.training
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("torchremote: the evaluation mode that was set here is refused: Dropping on owner: the mod")
    again()
    assert not drops(stub)  # what was asked for is not forgotten


def test_stubs_are_made_while_a_mode_is_noted(stub, monkeypatch):
    copies, making = [copy.copy(stub) for _ in range(5)], []
    set_attribute = shared_mode._torch.set_attribute

    def set_and_make(*args):
        set_attribute(*args)
        if not making:
            making.append(threading.Thread(target=lambda: copies.append(copy.copy(stub))))
            making[0].start()
            making[0].join(0.5)  # it may have to wait

    monkeypatch.setattr(shared_mode._torch, "set_attribute", set_and_make)
    stub.eval()
    making[0].join()
    assert len(copies) == 6
    assert not any(one.training for one in copies)
