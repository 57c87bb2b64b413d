"""Exported modules on an owner: created, served and sent, called without its GIL, trained, moved."""

import io
import threading
import time

import pytest
import torch
import torch.distributed.autograd as dist_autograd
import torch.distributed.rpc as rpc
from torch import Tensor, nn

import torchremote as tr
from torchremote.dropin.remote_module import _RemoteModule
from torchremote.errors import ArgumentError, CreationError, MismatchError, RemoteError
from torchremote.jit import compile_contract, compile_interface
from torchremote.owner import modules, scripting

from .. import zoo
from ..jit.export.zoo import (
    Counting,
    Dataclass,
    Encoding,
    Holding,
    Kwargs,
    Normed,
    OnTensor,
    OnTwo,
    Returning,
    Several,
    X,
)
from ..waiting import holding_the_gil

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def seeded(cls, training=False):
    torch.manual_seed(3)
    return cls().train(training)


def test_a_module_that_torchscript_refuses_is_created_with_examples(owner):
    with pytest.raises(CreationError) as raised:
        tr.create(owner, OnTwo, seeded, args=(Kwargs,))
    said = str(raised.value)
    assert "variable number of arguments" in said
    assert "**options" in said
    assert "give examples= of its arguments" in said
    stub = tr.create(owner, OnTwo, seeded, args=(Kwargs,), examples={"forward": X})  # y has a default
    x = torch.randn(7, 4)
    assert torch.equal(stub(x), seeded(Kwargs)(x))
    assert torch.equal(stub.forward_many([(x,), (x + 1,)])[1], seeded(Kwargs)(x + 1))
    assert list(tr.at_owner(stub).state_dict()) == ["linear.weight", "linear.bias"]


def test_many_are_created_with_the_same_examples(owner):
    stubs = tr.create_many([owner, owner], OnTwo, seeded, args=[(Kwargs,), (Kwargs, True)], examples={"forward": X})
    assert all(torch.equal(stub(X[0]), seeded(Kwargs)(X[0])) for stub in stubs)


def test_a_refused_call_says_which_argument(owner):
    stub = tr.create(owner, OnTwo, seeded, args=(Kwargs,), examples={"forward": X})
    remedy = "; if the module can run such a call, whoever exported it can give an example of one, too"
    with pytest.raises(RemoteError) as caught:
        stub(torch.ones(2))
    assert str(caught.value) == f"OnTwo.forward on owner: x: exported for float32 [any, 4]; came float32 [2]{remedy}"
    with pytest.raises(RemoteError) as caught:
        stub.forward_many([(X[0],), (X[0], X[0])])
    assert str(caught.value) == f"OnTwo.forward_many on owner: calls[1]: y: exported for None; came a value{remedy}"
    both = tr.create(owner, OnTwo, seeded, args=(Kwargs,), examples={"forward": [X, {"x": X[0], "y": X[0]}]})
    assert torch.equal(both(X[0], X[0] + 1), seeded(Kwargs)(X[0], y=X[0] + 1))


def test_a_dataclass_arrives_as_the_named_tuple_of_the_interface(owner):
    stub = tr.create(owner, Returning, seeded, args=(Dataclass,), examples={"forward": X})
    found = stub(torch.ones(5, 4))
    wanted = seeded(Dataclass)(torch.ones(5, 4))
    assert torch.equal(found.logits, wanted.logits)
    assert torch.equal(found.loss, wanted.loss)
    assert len(found.hidden) == 2


def test_it_is_served_and_sent_and_hosted_by_a_remote_module(owner):
    module, x = seeded(Kwargs), torch.randn(5, 4)
    tr.serve(module, OnTwo, "exported", examples={"forward": X})
    tr.withdraw("exported")
    sent = tr.create(owner, OnTwo, tr.exported(module, OnTwo, {"forward": X}), name="sent")
    assert torch.equal(sent(x), module(x))
    assert torch.equal(tr.connect(owner, OnTwo, "sent")(x), module(x))
    drop_in = _RemoteModule(owner, seeded, (Kwargs,), None, OnTwo, examples={"forward": X})
    assert torch.equal(drop_in(x), module(x))
    file = io.BytesIO()
    torch.jit.save(sent, file)
    file.seek(0)
    assert torch.equal(tr.load(file)(x), module(x))
    rpc.rpc_sync(owner, tr.withdraw, ("sent",))
    with pytest.raises(ArgumentError, match="examples: only for modules with an interface"):
        _RemoteModule(owner, seeded, (Kwargs,), examples={"forward": X})


@pytest.mark.parametrize(
    ("examples", "error", "said"),
    [
        ({"forward": (torch.ones(3), 1)}, ArgumentError, "OnTwo.forward.y: 1 is no Tensor"),
        ({}, ArgumentError, "OnTwo.forward: no example"),
        ({"forward": (torch.ones(3, 5),)}, CreationError, "torch.export cannot capture it"),
    ],
)
def test_examples_that_do_not_fit(owner, examples, error, said):
    with pytest.raises(error, match=said):
        tr.create(owner, OnTwo, seeded, args=(Kwargs,), examples=examples)


def test_a_scripted_module_takes_no_examples(owner):
    scripted = torch.jit.script(nn.Identity())
    for host in (
        lambda: tr.create(owner, OnTwo, scripted, examples={"forward": X}),
        lambda: tr.serve(scripted, OnTwo, "not served", examples={"forward": X}),
        lambda: tr.exported(scripted, OnTwo, {"forward": X}),
        lambda: tr.exported(scripted, OnTwo),
    ):
        with pytest.raises(MismatchError, match="is scripted already, .* create and serve host it .* without examples"):
            host()


class Holds(nn.Module):
    def __init__(self, part):
        super().__init__()
        self.part, self.linear = part, nn.Linear(4, 4)

    def forward(self, x):
        return self.part(self.linear(x))


def test_a_part_that_is_scripted_is_refused_by_its_name(owner):
    example = {"forward": (torch.ones(3, 4),)}
    stub = tr.create(owner, OnTensor, nn.Linear, args=(4, 4), examples=example)
    own = tr.exported(nn.Linear(4, 4), OnTensor, example)
    traced, scripted = torch.jit.trace(nn.Linear(4, 4), torch.ones(3, 4)), torch.jit.script(nn.Linear(4, 4))
    for part in (traced, scripted, own):
        with pytest.raises(
            CreationError, match="^Holds's part part, a Linear, is scripted already, .* the Python module"
        ):
            tr.exported(Holds(part), OnTensor, example)
    with pytest.raises(CreationError, match=r"^Holds's part part\.1, a Linear, is scripted already"):
        tr.exported(Holds(nn.Sequential(nn.ReLU(), scripted)), OnTensor, example)
    with pytest.raises(CreationError, match="Holds's part part is a stub, .* call it outside of what is exported"):
        tr.exported(Holds(stub), OnTensor, example)
    with pytest.raises(CreationError, match="Holds's part part, a Linear, is scripted already"):
        tr.create(owner, OnTensor, Holds, args=(scripted,), examples=example)


def test_a_call_does_not_wait_for_the_owners_gil(owner):
    stub = tr.create(owner, OnTwo, seeded, args=(Kwargs,), examples={"forward": X})
    for _ in range(5):
        stub(X[0])
    held = holding_the_gil(owner, 1.0)
    seconds = []
    for _ in range(3):  # a machine that does other things may be late once
        start = time.monotonic()
        stub(X[0])
        seconds.append(time.monotonic() - start)
    assert not held.done()
    assert min(seconds) < 0.1
    held.wait()


def test_gradients_are_those_of_the_module_here(owner):
    stub = tr.create(
        owner, Several, seeded, args=(Encoding, True), examples={"encode": X, "decode": {"x": X[0], "times": 2}}
    )
    module = seeded(Encoding, True)
    for rref, parameter in zip(tr.at_owner(stub).parameters(), module.parameters(), strict=True):
        assert torch.equal(rref.to_here(), parameter)
    for size in (2, 5, 5, 5):
        x, own = (torch.ones(size, 4, requires_grad=True) for _ in range(2))
        with dist_autograd.context() as context:
            dist_autograd.backward(context, [stub.decode(stub.encode(x), times=2).sum()])
            gradient = dist_autograd.get_gradients(context)[x]
            theirs = rpc.rpc_sync(owner, gradients_here, (context, tr.at_owner(stub).parameters()))
        module.zero_grad()
        module.decode(module.encode(own), times=2).sum().backward()
        assert torch.equal(gradient, own.grad)
        assert all(map(torch.equal, theirs, (parameter.grad for parameter in module.parameters())))


def gradients_here(context, parameters):
    found = dist_autograd.get_gradients(context)
    return [found[rref.local_value()] for rref in parameters]


def test_buffers_count_and_have_the_modules_own_names(owner):
    stub = tr.create(owner, OnTensor, seeded, args=(Counting,), examples={"forward": X})
    module = seeded(Counting)
    for size in (2, 5):
        assert torch.equal(stub(torch.ones(size, 4)), module(torch.ones(size, 4)))
    state = tr.at_owner(stub).state_dict()
    assert list(state) == list(module.state_dict()) == ["count", "total"]
    assert state["count"] == 2
    assert torch.equal(state["total"], module.total)


def test_another_mode_is_refused_unless_both_were_exported(owner):
    stub = tr.create(owner, OnTensor, seeded, args=(Normed,), examples={"forward": X})
    tr.at_owner(stub).eval()
    with pytest.raises(ArgumentError, match="was exported in evaluation mode alone, so it cannot run in training mode"):
        tr.at_owner(stub).train()
    assert stub(X[0]).shape == (3, 4)
    both = tr.create(owner, OnTensor, in_both_modes)
    tr.at_owner(both).train()
    both(X[0])
    assert tr.at_owner(both).state_dict()["norm.num_batches_tracked"] == 1


class Freezable(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.full((4,), 5.0))

    def forward(self, x):
        return x + self.w if self.w.requires_grad else x


def test_a_parameter_that_a_method_asks_is_frozen(owner):
    stub = tr.create(owner, OnTensor, Freezable, examples={"forward": X})
    at_owner = tr.at_owner(stub)
    for _ in range(2):
        at_owner.requires_grad_(False)
        with pytest.raises(RemoteError, match="self.w: exported for a tensor that requires a gradient; came one that"):
            stub(X[0])
        at_owner.requires_grad_()
        assert torch.equal(stub(X[0]), X[0] + 5)


def test_a_module_that_is_in_another_mode_is_refused_when_it_is_hosted():
    exported = tr.exported(seeded(Normed).train(), OnTensor, {"forward": X})
    said = r"was exported in training mode alone, so it cannot run in evaluation mode; call .eval\(\) before it is exp"
    with pytest.raises(ArgumentError, match=said):
        tr.serve(exported.eval(), OnTensor, "normed")
    tr.serve(exported.train(), OnTensor, "normed")
    tr.withdraw("normed")
    holding = torch.jit.script(Holding(exported))
    with pytest.raises(ArgumentError, match=said):
        tr.serve(holding.eval(), OnTensor, "normed")


def in_both_modes():
    return tr.exported(seeded(Normed), OnTensor, {"forward": X}, both_modes=True)


class Positions(nn.Module):
    def forward(self, x):
        return x + torch.arange(x.shape[0], device=x.device)[:, None]


@pytest.fixture(scope="module")
def toy():
    from .. import accelerator

    return accelerator


def test_a_graph_without_a_device_moves_and_one_with_a_device_says_what_to_do(owner, toy):
    stub = tr.create(owner, OnTensor, seeded, args=(Counting,), examples={"forward": X})
    before = stub(X[0])
    stub = tr.at_owner(stub).to("toy:0")
    after = stub(X[0])
    assert after.device.type == "cpu"
    assert not torch.equal(before, after)
    assert tr.at_owner(stub).state_dict()["count"] == 2
    fixed = tr.create(owner, OnTensor, Positions, examples={"forward": X})
    with pytest.raises(ArgumentError, match=r"was exported on cpu, which its graph names; create it where it is to be"):
        tr.at_owner(fixed).to("toy:0")
    assert fixed(torch.zeros(3, 4))[2, 0] == 2


class Overloaded:
    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]: ...


def test_an_overloaded_forward_is_hosted_as_it_is(owner):
    stub = tr.create(owner, Overloaded, rnn)
    x = torch.randn(5, 2, 4)
    assert torch.equal(stub(x)[0], rnn()(x)[0])


def rnn():
    torch.manual_seed(0)
    return nn.GRU(4, 3)


class Meeting(nn.Module):
    """Goes on when another thread has compiled an interface, and has found one that was compiled before."""

    def __init__(self):
        super().__init__()
        self.tracing, self.compiled = threading.Event(), threading.Event()

    def forward(self, x):
        self.tracing.set()
        assert self.compiled.wait(60), "the other thread waits until this export has ended"
        return x


class Waiting:
    def forward(self, x: Tensor) -> Tensor: ...


def test_interfaces_are_compiled_while_a_module_is_exported():
    compile_interface(Waiting)
    module = Meeting()

    encoder = compile_interface(zoo.Encoder).contract
    held = scripting.scripted_module(zoo.LinearEncoder(), encoder.interface)

    def meet():
        module.tracing.wait(60)
        compile_contract(compile_interface(Waiting).interface)
        compile_interface(zoo.interface_of("forward(x: Tensor) -> Tensor", "__torch__.CompiledMeanwhile"))
        # torch refuses what is scripted while an export runs, and so did this.
        modules.remove(modules.add(encoder, held, torch.device("cpu")))
        module.compiled.set()

    thread = threading.Thread(target=meet)
    thread.start()
    try:
        assert tr.exported(module, Waiting, {"forward": (torch.ones(2),)})(torch.ones(3)).shape == (3,)
    finally:
        thread.join(60)
