"""The remote module's own state, through a stub: parameters, state, modes, device, checkpoints."""

import threading
import warnings

import pytest
import torch
import torch.distributed.autograd as dist_autograd
import torch.distributed.rpc as rpc
from torch import Tensor, nn
from torch.distributed.optim import DistributedOptimizer

import torchremote as tr
from torchremote.errors import ArgumentError, InterfaceError, MismatchError, PlaceError, RemoteError, StaleStubError
from torchremote.link.route import route_of
from torchremote.owner import module_state, served
from torchremote.owner.module_state import Part, Piece, pieces
from torchremote.testing import same

from .. import gallery, zoo
from .test_calls import Ranker

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
X = torch.ones(2, 8)


@pytest.fixture
def encoder(owner):
    return tr.create(owner, zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": 4})


def local(seed=4):
    return zoo.LinearEncoder(seed=seed)


class Dropping:
    def forward(self, x: Tensor) -> Tensor: ...


class DroppingModule(nn.Module):
    """Parameters and buffers of several kinds; and dropout, which shows the mode."""

    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(8)
        self.register_buffer("table", torch.arange(24).reshape(2, 3, 4).permute(2, 0, 1))
        self.register_buffer("one", torch.tensor(3, dtype=torch.int8))
        self.register_buffer("none", torch.zeros(0, 5, dtype=torch.complex64))
        self.register_buffer("halves", torch.ones(5, dtype=torch.bfloat16))

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(torch.ones_like(x))


# -- state


@pytest.mark.parametrize("size", [1, 30, 64 << 20])
def test_state_comes_and_goes_in_pieces(owner, monkeypatch, size):
    monkeypatch.setattr(module_state.pieces, "__defaults__", (size,))
    stub = tr.create(owner, Dropping, DroppingModule)
    state = tr.at_owner(stub).state_dict()
    assert same(state, dict(DroppingModule().state_dict()))
    changed = {name: tensor + 1 for name, tensor in state.items()}
    assert tr.at_owner(stub).load_state_dict(changed) == ([], [])
    assert same(tr.at_owner(stub).state_dict(), changed)


def test_pieces_hold_as_much_as_they_may_and_everything_once():
    parts = {"a": Part((3, 100), torch.float32), "b": Part((), torch.int8), "c": Part((0, 4), torch.int64)}
    parts["d"] = Part((7,), torch.float64)
    messages = list(pieces(parts, 480))
    assert messages[0] == [Piece("a", 1, 0, 40)]
    assert messages[2] == [Piece("a", 1, 80, 100), Piece("b", 0, 0, 1), Piece("c", 1, 0, 4), Piece("d", 0, 0, 7)]
    assert len(messages) == 3
    assert list(pieces({"big": Part((2, 2), torch.float64)}, 1)) == [[Piece("big", 0, 0, 1)], [Piece("big", 0, 1, 2)]]
    assert list(pieces({})) == []


def test_a_state_that_does_not_fit_changes_nothing(encoder):
    before = tr.at_owner(encoder).state_dict()
    wrong = {"linear.weight": torch.zeros(8, 8), "linear.bias": torch.zeros(9), "other": torch.zeros(1)}
    with pytest.raises(MismatchError, match=r"other is not the module's; linear\.bias has shape \(9,\), and \(8,\) in"):
        tr.at_owner(encoder).load_state_dict(wrong)
    with pytest.raises(MismatchError, match=r"linear\.bias is missing"):
        tr.at_owner(encoder).load_state_dict({"linear.weight": torch.zeros(8, 8)})
    assert same(tr.at_owner(encoder).state_dict(), before)
    keys = tr.at_owner(encoder).load_state_dict({"linear.bias": torch.zeros(8), "more": X}, strict=False)
    assert keys == (["linear.weight"], ["more"])
    assert torch.equal(tr.at_owner(encoder).state_dict()["linear.bias"], torch.zeros(8))


def test_checkpoints_are_written_whole_on_the_owner(encoder, tmp_path):
    path = tmp_path / "encoder.pt"
    path.write_text("old")
    tr.at_owner(encoder).checkpoint(path)
    assert same(dict(torch.load(path, weights_only=True)), dict(local().state_dict()))
    assert [file.name for file in tmp_path.iterdir()] == ["encoder.pt"]
    with pytest.raises(RemoteError, match="Encoder on owner: .*(No such file|does not exist)"):
        tr.at_owner(encoder).checkpoint(tmp_path / "nowhere" / "encoder.pt")
    assert torch.equal(encoder(X), local()(X, 1.0))


# -- training


def test_parameters_are_for_distributed_optimizers(encoder):
    body, target = local(), torch.zeros(2, 8)
    optimizer = torch.optim.SGD(body.parameters(), lr=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        distributed = DistributedOptimizer(torch.optim.SGD, tr.at_owner(encoder).parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.mse_loss(body(X, 1.0), target).backward()
        optimizer.step()
        with dist_autograd.context() as context:
            dist_autograd.backward(context, [nn.functional.mse_loss(encoder(X), target)])
            distributed.step(context)
    assert torch.allclose(encoder(X), body(X, 1.0))


def test_modes_and_gradients(owner):
    stub = tr.create(owner, Dropping, DroppingModule)
    control = tr.at_owner(stub)
    assert (stub(X) == 0).any() or (stub(X) == 2).any()
    control.eval()
    assert torch.equal(stub(X), X)
    control.train()
    assert not torch.equal(stub(torch.ones(50, 8)), torch.ones(50, 8))
    control.requires_grad_(False)
    assert not any(rpc.rpc_sync(owner, flags_of, (reference,))[0] for reference in control.parameters())
    control.requires_grad_()
    assert all(rpc.rpc_sync(owner, flags_of, (reference,))[0] for reference in control.parameters())
    for reference in control.parameters():
        rpc.rpc_sync(owner, give_gradient, (reference,))
    assert all(rpc.rpc_sync(owner, flags_of, (reference,))[1] for reference in control.parameters())
    control.zero_grad()
    assert not any(rpc.rpc_sync(owner, flags_of, (reference,))[1] for reference in control.parameters())


def flags_of(reference):
    parameter = reference.local_value()
    return parameter.requires_grad, parameter.grad is not None


def give_gradient(reference):
    parameter = reference.local_value()
    parameter.grad = torch.ones_like(parameter)


# -- another device


@pytest.fixture(scope="module")
def toy():
    from .. import accelerator

    return accelerator


def test_stubs_follow_a_module_to_another_device_and_back(owner, toy, encoder):
    expected = local()(X, 2.0)
    twin, inside = tr.with_timeout(encoder, 20), torch.jit.script(Ranker(encoder))
    ranked = inside(X)
    moved = tr.at_owner(encoder).to("toy:0")
    assert repr(moved) == "EncoderStub(Encoder on owner/toy:0)"
    for stub in (moved, encoder, twin, tr.with_timeout(encoder, 20)):
        assert same(stub(X, 2.0), expected)
        assert same(stub.forward_async(X, 2.0).wait(), expected)
    assert same(inside(X), ranked)
    assert {tensor.device.type for tensor in tr.at_owner(encoder).state_dict().values()} == {"cpu"}
    again = tr.at_owner(encoder).to("cpu")
    further = tr.at_owner(again).to("toy:0")
    for stub in (again, further, moved, encoder, twin):
        assert same(stub(X, 2.0), expected)
    assert {route_of(stub).handle for stub in (again, further, moved)} == {route_of(encoder).handle}


def test_a_moved_module_goes_with_its_last_stub(owner, toy):
    from ..waiting import hosted, until

    before = hosted(owner)
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    stub = tr.at_owner(stub).to("toy:0")
    assert len(hosted(owner) - before) == 1
    assert stub(X).shape == (2, 8)
    del stub
    until(lambda: hosted(owner) <= before)


def test_everything_moves_behind_stubs_that_are_out(owner, toy):
    from ..link.test_devices import COUNT, arguments

    stub = tr.create(owner, gallery.Everywhere, gallery.EverywhereModule)
    assert stub(*arguments())[0] == ["cpu"] * COUNT
    tr.at_owner(stub).to("toy:0")
    devices, results = stub(*arguments())
    assert devices == ["toy"] * COUNT
    assert same(results, (arguments()[0] * 3, *arguments()[1:]))


class Calling(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.linear = self.shared = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.shared(self.linear(x)) + self.encoder(x.cpu()).to(x.device)


def test_a_module_that_moves_keeps_its_stubs_and_what_it_shares(owner, toy, encoder):
    module = torch.jit.script(Calling(encoder))
    expected = module(X)
    tr.serve(module, Dropping, "calling")
    stub = tr.connect("caller", Dropping, "calling")
    assert same(tr.at_owner(stub).to("toy:0")(X), expected)
    moved = served.served_module("calling")
    assert {parameter.device.type for parameter in moved.parameters()} == {"toy"}
    assert len(list(moved.parameters())) == 2  # one Linear, at two places
    assert same(stub(X), expected)
    tr.withdraw("calling")


def test_a_move_does_not_undo_a_replacement(owner, toy, monkeypatch):
    tr.serve(local(1), zoo.Encoder, "raced")
    stub = tr.connect("caller", zoo.Encoder, "raced")
    copy_on = module_state._copy_on

    def slow_copy(device, module):
        copied = copy_on(device, module)
        if module is first:
            tr.serve(local(2), zoo.Encoder, "raced", replace=True)
        return copied

    first = served.served_module("raced")
    monkeypatch.setattr(module_state, "_copy_on", slow_copy)
    module_state.move_here(route_of(stub).handle, "toy:0")
    assert same(stub(X), local(2)(X, 1.0))
    assert next(served.served_module("raced").parameters()).device.type == "toy"
    tr.withdraw("raced")


def test_no_call_fails_while_a_module_moves(owner, toy, encoder):
    expected, end, failures = local()(X, 1.0), threading.Event(), []

    def call():
        while not end.is_set():
            for result in torch.futures.wait_all([encoder.forward_async(X) for _ in range(20)]):
                if not same(result, expected):
                    failures.append(result)

    thread = threading.Thread(target=call)
    thread.start()
    for _ in range(5):
        tr.at_owner(encoder).to("toy:0")
        tr.at_owner(encoder).to("cpu")
    end.set()
    thread.join()
    assert failures == []


# -- what is refused


def test_what_is_refused(owner, encoder):
    for device in ("junk", torch.float64):
        with pytest.raises(PlaceError, match=r"Encoder on owner: to\(.*\): no device"):
            tr.at_owner(encoder).to(device)
    for state in (None, {"linear.weight": 3}, {"linear.weight": torch.ones(2, 2).to_sparse()}):
        with pytest.raises(ArgumentError, match="not a mapping of tensors|is no strided tensor with values"):
            tr.at_owner(encoder).load_state_dict(state)
    with pytest.raises(InterfaceError, match="at_owner: Linear is no stub"):
        tr.at_owner(nn.Linear(1, 1))
    with pytest.raises(PlaceError, match="Encoder on owner: device 'cuda:77': not on this worker"):
        tr.at_owner(encoder).to("cuda:77")
    named = tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name="gone")
    rpc.rpc_sync(owner, tr.withdraw, ("gone",))
    with pytest.raises(StaleStubError, match="Encoder on owner: its module was withdrawn"):
        tr.at_owner(named).state_dict()
    assert repr(tr.at_owner(encoder)) == "at_owner(Encoder on owner)"
