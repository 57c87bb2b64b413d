"""The remote module's own state, through a stub: parameters, state, modes, device, checkpoints."""

import copy
import errno
import os
import stat
import threading
import warnings

import pytest
import torch
import torch.distributed.autograd as dist_autograd
import torch.distributed.rpc as rpc
from torch import Tensor, nn
from torch.distributed.optim import DistributedOptimizer

import torchremote as tr
from torchremote.errors import (
    ArgumentError,
    InterfaceError,
    MismatchError,
    NotSavableError,
    PlaceError,
    RemoteError,
    StaleStubError,
    StubError,
)
from torchremote.link.route import route_of
from torchremote.owner import checkpoints, module_state, served
from torchremote.owner.module_state import Piece, pieces
from torchremote.owner.state_names import ShapeAndDtype
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


@pytest.fixture(scope="module")
def toy():
    from .. import accelerator

    return accelerator


# -- state


@pytest.mark.parametrize("size", [1, 30, 64 << 20])
def test_state_comes_and_goes_in_pieces(owner, monkeypatch, size):
    monkeypatch.setattr(module_state.pieces, "__defaults__", (size,))
    stub = tr.create(owner, Dropping, DroppingModule)
    state = tr.at_owner(stub).state_dict()
    assert same(state, DroppingModule().state_dict())
    changed = {name: tensor + 1 for name, tensor in state.items()}
    assert tr.at_owner(stub).load_state_dict(changed) == ([], [])
    assert same(dict(tr.at_owner(stub).state_dict()), changed)


def test_pieces_hold_as_much_as_they_may_and_everything_once():
    parts = {
        "a": ShapeAndDtype((3, 100), torch.float32),
        "b": ShapeAndDtype((), torch.int8),
        "c": ShapeAndDtype((0, 4), torch.int64),
    }
    parts["d"] = ShapeAndDtype((7,), torch.float64)
    messages = list(pieces(parts, 480))
    assert messages[0] == [Piece("a", 1, 0, 40)]
    assert messages[2] == [Piece("a", 1, 80, 100), Piece("b", 0, 0, 1), Piece("c", 1, 0, 4), Piece("d", 0, 0, 7)]
    assert len(messages) == 3
    assert list(pieces({"big": ShapeAndDtype((2, 2), torch.float64)}, 1)) == [
        [Piece("big", 0, 0, 1)],
        [Piece("big", 0, 1, 2)],
    ]
    assert list(pieces({})) == []


def test_a_state_that_does_not_fit_changes_nothing(encoder):
    before = tr.at_owner(encoder).state_dict()
    wrong = {"linear.weight": torch.zeros(8, 8), "linear.bias": torch.zeros(9), "other": 3}
    with pytest.raises(MismatchError, match=r"other is not the module's; linear\.bias has shape \(9,\), and \(8,\) in"):
        tr.at_owner(encoder).load_state_dict(wrong)
    with pytest.raises(MismatchError, match=r"linear\.bias is missing"):
        tr.at_owner(encoder).load_state_dict({"linear.weight": torch.zeros(8, 8)})
    with pytest.raises(MismatchError, match=r"linear\.bias is complex, and torch\.float32 in the module"):
        tr.at_owner(encoder).load_state_dict({**before, "linear.bias": torch.zeros(8, dtype=torch.complex64)})
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
    with pytest.raises(RemoteError, match="Encoder on owner: .*its folder is not there; make it on the owner"):
        tr.at_owner(encoder).checkpoint(tmp_path / "nowhere" / "encoder.pt")
    assert torch.equal(encoder(X), local()(X, 1.0))


def test_checkpoints_keep_the_mode_and_follow_links(encoder, tmp_path):
    new, private, link = tmp_path / "new.pt", tmp_path / "private.pt", tmp_path / "link.pt"
    private.touch(0o600)
    private.chmod(0o640)
    link.symlink_to("private.pt")
    for path in (new, link):
        tr.at_owner(encoder).checkpoint(path)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(new.stat().st_mode) == 0o666 & ~umask
    assert stat.S_IMODE(private.stat().st_mode) == 0o640
    assert link.is_symlink()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link.pt", "new.pt", "private.pt"]
    for path in (new, private):
        assert same(dict(torch.load(path)), dict(local().state_dict()))
    later = tmp_path / "later.pt"
    link.unlink()
    link.symlink_to(later)  # leads to nothing yet
    tr.at_owner(encoder).checkpoint(link)
    assert later.exists()
    assert link.is_symlink()


def test_a_full_disk_is_said_to_be_one(encoder, tmp_path):
    with pytest.raises(
        RemoteError, match=r"^Encoder on owner: checkpoint\('/dev/full'\): No space left on device; .* make"
    ):
        tr.at_owner(encoder).checkpoint("/dev/full")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)
    with pytest.raises(RemoteError, match="Is a directory"):
        tr.at_owner(encoder).checkpoint(tmp_path)


def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path, monkeypatch):
    def fills_up(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    tr.serve(local(), zoo.Encoder, "kept")
    handle = next(iter(served.by_name["kept"].handles.values()))
    path = tmp_path / "old.pt"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", fills_up)
    with pytest.raises(RemoteError, match="No space left on device"):
        checkpoints.checkpoint_here(handle, str(path))
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1
    tr.withdraw("kept")


# -- what a scripted module has less, or more, than the Python module


class Input:
    def forward(self, input: Tensor) -> Tensor: ...


def quantized():
    return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(3, 3)), {nn.Linear})


class Around(nn.Module):
    """Something around a part."""

    def __init__(self, part):
        super().__init__()
        self.part = part
        self.linear = nn.Linear(3, 3)

    def forward(self, input: Tensor) -> Tensor:
        return self.part(self.linear(input))


def around_quantized():
    return Around(quantized())


def around_scripted_quantized():
    return Around(torch.jit.script(quantized()))


def frozen():
    return torch.jit.freeze(torch.jit.script(nn.Linear(3, 3)).eval())


def scripted_quantized():
    return torch.jit.script(around_quantized())


def frozen_with_its_mode():
    return torch.jit.freeze(torch.jit.script(nn.Linear(3, 3)).eval(), preserved_attrs=["training"])


class WithExtraState(nn.Linear):
    def get_extra_state(self):
        return {"steps": 3}

    def set_extra_state(self, state):
        pass


def with_extra_state():
    return WithExtraState(3, 3)


def with_extra_state_inside():
    return nn.Sequential(WithExtraState(3, 3))


class SavesItsOwn(nn.Linear):
    """Writes a half of its weight."""

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = self.weight[:1]


def saves_its_own():
    return SavesItsOwn(3, 3)


class CannotSave(nn.Linear):
    def get_extra_state(self):
        raise OSError("no state")


def cannot_save():
    return CannotSave(3, 3)


class Exits(nn.Linear):
    def get_extra_state(self):
        raise SystemExit(3)


def exits():
    return Exits(3, 3)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (quantized, r"does not keep what its state_dict\(\) has under 0\.scale, 0\.zero_point, 0\._packed"),
        (around_quantized, r"under part\.0\.scale"),
        (around_scripted_quantized, r"keeps _packed_params, a torch\.classes\."),
        (frozen, "it was frozen"),
        (frozen_with_its_mode, "it was frozen"),
        (scripted_quantized, r"its part part\.0\._packed_params keeps _packed_params, a torch\.classes\."),
        (with_extra_state, "under _extra_state;"),
        (with_extra_state_inside, r"under 0\._extra_state;"),
        (saves_its_own, "under weight;"),
        (cannot_save, r"its state_dict\(\) raised OSError: no state;"),
        (exits, r"its state_dict\(\) raised SystemExit: 3;"),
    ],
)
def test_a_state_that_cannot_be_whole_is_refused(owner, tmp_path, make, says):
    stub = tr.create(owner, Input, make)
    remote, file = tr.at_owner(stub), tmp_path / "state.pt"
    for ask in (remote.state_dict, lambda: remote.load_state_dict({}, strict=False), lambda: remote.checkpoint(file)):
        with pytest.raises(NotSavableError, match=f"^Input on owner: .*{says}"):
            ask()
    assert list(tmp_path.iterdir()) == []
    assert stub(torch.ones(1, 3)).shape == (1, 3)


class Kept(nn.Module):
    """Has a buffer that is not persistent, and a tensor that is a plain attribute."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.register_buffer("mask", torch.ones(3), persistent=False)
        self.register_buffer("table", torch.ones(3))
        self.plain = torch.ones(3)

    def forward(self, input: Tensor) -> Tensor:
        return self.linear(input) * self.mask * self.table * self.plain


def kept_inside():
    return nn.Sequential(Kept(), Kept())


@pytest.mark.parametrize("make", [Kept, kept_inside])
def test_the_names_are_the_python_modules_own(owner, toy, tmp_path, make):
    stub, here = tr.create(owner, Input, make), make()
    path = tmp_path / "state.pt"
    for device in ("cpu", "toy:0"):  # a copy has the same names
        stub = tr.at_owner(stub).to(device)
        assert tr.at_owner(stub).load_state_dict(here.state_dict()) == ([], [])
        assert same(tr.at_owner(stub).state_dict(), here.state_dict())
    stub = tr.at_owner(stub).to("cpu")
    tr.at_owner(stub).checkpoint(path)
    assert same(torch.load(path), here.state_dict())
    x = torch.ones(1, 3)
    assert same(stub(x), here(x))


def scripted_kept():
    return torch.jit.script(Kept())


def test_a_module_that_arrives_scripted_has_all_its_buffers(owner):
    names = ["linear.bias", "linear.weight", "mask", "table"]
    assert sorted(tr.at_owner(tr.create(owner, Input, scripted_kept)).state_dict()) == names


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
    assert control.eval() is control
    assert torch.equal(stub(X), X)
    assert control.train() is control
    assert not torch.equal(stub(torch.ones(50, 8)), torch.ones(50, 8))
    assert control.requires_grad_(False) is control
    assert not any(rpc.rpc_sync(owner, flags_of, (reference,))[0] for reference in control.parameters())
    control.requires_grad_()
    assert all(rpc.rpc_sync(owner, flags_of, (reference,))[0] for reference in control.parameters())
    for reference in control.parameters():
        rpc.rpc_sync(owner, give_gradient, (reference,))
    assert all(rpc.rpc_sync(owner, flags_of, (reference,))[1] for reference in control.parameters())
    control.zero_grad(set_to_none=True)
    assert not any(rpc.rpc_sync(owner, flags_of, (reference,))[1] for reference in control.parameters())


def flags_of(reference):
    parameter = reference.local_value()
    return parameter.requires_grad, parameter.grad is not None


def give_gradient(reference):
    parameter = reference.local_value()
    parameter.grad = torch.ones_like(parameter)


# -- another device


def test_stubs_follow_a_module_to_another_device_and_back(owner, toy, encoder):
    expected = local()(X, 2.0)
    twin, inside = tr.with_timeout(encoder, 20), torch.jit.script(Ranker(encoder))
    ranked = inside(X)
    moved = tr.at_owner(encoder).to("toy:0")
    assert repr(moved) == "EncoderStub(Encoder on owner/toy:0, answers)"
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


def test_it_is_sent_and_copied(owner, encoder):
    expected = tr.at_owner(encoder).state_dict()
    remote = tr.at_owner(encoder, 7)
    for one in (copy.copy(remote), copy.deepcopy(remote)):
        assert same(one.state_dict(), expected)
        assert one._timeout == 7
    assert same(rpc.rpc_sync(owner, state_at, (remote,)), expected)


def state_at(remote):
    return remote.state_dict()


@pytest.mark.parametrize("value", [3, {"a": 1}, torch.empty(1, device="meta"), torch.ones(2, 2).to_sparse()])
def test_what_a_module_does_not_have_may_be_anything(encoder, value):
    remote = tr.at_owner(encoder)
    state = remote.state_dict()
    more = {"other._extra_state": value, **state, "epoch": value}
    for load in (remote.load_state_dict, encoder.load_state_dict):
        assert load(more, strict=False) == ([], ["other._extra_state", "epoch"])
        with pytest.raises(MismatchError, match="other._extra_state is not the module's; epoch is not the module's"):
            load(more)
    assert same(remote.state_dict(), state)


# -- what is refused


def test_what_is_refused(owner, encoder):
    for device, remedy in (("junk", ": ."), (3, "; write one as torch does, such as 'cuda:1'")):
        with pytest.raises(PlaceError, match=rf"Encoder on owner: to\(.*\): no device{remedy}"):
            tr.at_owner(encoder).to(device)
    with pytest.raises(ArgumentError, match=r"Encoder on owner: zero_grad\(set_to_none=False\): .* leave set_to_none"):
        tr.at_owner(encoder).zero_grad(set_to_none=False)
    for state in (None, {"linear.weight": 3}, {"linear.weight": torch.ones(2, 2).to_sparse()}):
        with pytest.raises(
            ArgumentError, match="not a mapping of tensors; give what|is no strided tensor .* give a tensor"
        ):
            tr.at_owner(encoder).load_state_dict(state)
    with pytest.raises(InterfaceError, match="at_owner: Linear is no stub"):
        tr.at_owner(nn.Linear(1, 1))
    with pytest.raises(AttributeError, match=r"at_owner\(stub\)\.unlike_any: no such .* has .*, parameters, req"):
        tr.at_owner(encoder).unlike_any  # noqa: B018
    with pytest.raises(TypeError, match=r"write at_owner\(stub\)\.parameters\(\) for an optimizer"):
        DistributedOptimizer(torch.optim.SGD, tr.at_owner(encoder), lr=0.1)
    with pytest.raises(PlaceError, match="Encoder on owner: device 'cuda:77': not on this worker"):
        tr.at_owner(encoder).to("cuda:77")
    named = tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name="gone")
    rpc.rpc_sync(owner, tr.withdraw, ("gone",))
    with pytest.raises(StaleStubError, match="Encoder on owner: its module is gone"):
        tr.at_owner(named).state_dict()
    assert repr(tr.at_owner(encoder)) == "at_owner(Encoder on owner)"


def test_a_dtype_is_given_where_the_module_is_made(encoder):
    where = "do it on the owner, where the module is made: in a function that you give to create as module_cls"
    remote = tr.at_owner(encoder)
    said = f"Encoder on owner: to: the module is on another worker, and this is a stub of it; {where}"
    dtype = torch.bfloat16
    for to in (remote.to, encoder.to):
        for args, kwargs in (((dtype,), {}), (("cpu", dtype), {}), ((), {"dtype": dtype}), ((X,), {})):
            with pytest.raises(StubError) as raised:
                to(*args, **kwargs)
            assert str(raised.value) == said
    with pytest.raises(StubError, match=r'to: .* is a stub of it; torchremote\.at_owner\(stub\)\.to\("cuda:0"\) moves'):
        encoder.to("cpu")
    for name, remedy in (("half", where), ("double", where), ("cuda", r'at_owner\(stub\)\.to\("cuda:0"\) moves')):
        with pytest.raises(AttributeError, match=rf"at_owner\(stub\)\.{name}: no such attribute; .*{remedy}"):
            getattr(remote, name)
    assert not hasattr(remote, "half")


def test_keywords_of_torch_are_taken_or_refused_with_what_to_write(encoder):
    remote = tr.at_owner(encoder)
    state = remote.state_dict(prefix="encoder.")
    assert (
        list(state) == list(encoder.state_dict(prefix="encoder.")) == ["encoder.linear.weight", "encoder.linear.bias"]
    )
    assert state._metadata == encoder.state_dict(prefix="encoder.")._metadata
    with pytest.raises(StubError, match=r"state_dict\(keep_vars=True\): .* copies, without gradients; leave keep_vars"):
        remote.state_dict(keep_vars=True)
    with pytest.raises(StubError, match=r"state_dict\(destination=\): .* write destination\.update\(torchremote"):
        remote.state_dict(destination={})
    assert torch.equal(remote.to("cpu", non_blocking=True)(X), encoder(X))
    for to in (remote.to, encoder.to):
        for kwargs in ({"memory_format": torch.channels_last}, {"tensor": X}):
            with pytest.raises(StubError, match="to: .* do it on the owner, where the module is made"):
                to(**kwargs)


@pytest.mark.parametrize("wrong", [None, 1, 0, "no", torch.tensor(True), torch.tensor([1, 2])])
def test_what_is_no_bool_is_refused_before_anything_is_sent(encoder, wrong):
    remote = tr.at_owner(encoder)
    for method, what in (("train", "training mode"), ("requires_grad_", "requires_grad"), ("zero_grad", "set_to_none")):
        for one in (remote, encoder):
            with pytest.raises(ValueError, match=rf"^{method}\(.*\): {what} is True or False$"):
                getattr(one, method)(wrong)
    with pytest.raises(ValueError, match=r"^parameters\(.*\): recurse is True or False$"):
        remote.parameters(wrong)


def test_a_name_of_torch_that_is_not_there_says_what_to_write(encoder):
    inherited = {name for name in dir(torch.nn.Module) if not name.startswith("_")} | {"training"}
    inherited.discard(torch._C._get_privateuse1_backend_name())  # torch adds it for a backend, as that of other tests
    remote = tr.at_owner(encoder)
    for name in inherited - set(dir(remote)) - {"T_destination", "call_super_init", "dump_patches", "extra_repr"}:
        with pytest.raises(AttributeError, match=rf"at_owner\(stub\)\.{name}: no such attribute; ") as raised:
            getattr(remote, name)
        assert "; it has" not in str(raised.value)
    with pytest.raises(AttributeError, match=r"no such attribute; it has checkpoint, eval, load_state_dict"):
        _ = remote.unlike_any


def test_values_are_copied_and_never_assigned(encoder):
    state = encoder.state_dict()
    for load in (tr.at_owner(encoder).load_state_dict, encoder.load_state_dict):
        assert load(state, assign=False) == ([], [])
        with pytest.raises(
            StubError, match=r"load_state_dict\(assign=True\): .*; the values are always copied; leave ass"
        ):
            load(state, assign=True)


def test_what_is_no_exception_is_a_remote_error(encoder):
    for error in (SystemExit, KeyboardInterrupt, GeneratorExit):
        with pytest.raises(RemoteError, match=f"^Encoder on owner: {error.__name__}: as asked"):
            tr.at_owner(encoder)._ask(raising, error)


def raising(handle, error):
    raise error("as asked")


# -- stubs that follow


@pytest.fixture
def served_again(owner):
    """Serves a module on the owner, with a seed, in the place of what was withdrawn. The stub knows the first one."""

    def serve(seed):
        return tr.create(owner, zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": seed}, name="again")

    def serve_anew(seed):
        tr.withdraw("again", owner)
        return serve(seed)

    serve(1)
    yield serve_anew
    tr.withdraw("again", owner)


def test_what_was_served_again_is_found(owner, served_again, tmp_path):
    stub = tr.connect(owner, zoo.Encoder, "again")
    path = tmp_path / "again.pt"
    asked = [
        lambda: tr.at_owner(stub).checkpoint(path),
        lambda: tr.at_owner(stub).parameters(),
        lambda: tr.at_owner(stub).state_dict(),
        lambda: tr.at_owner(stub).load_state_dict(local(1).state_dict()),
        lambda: stub.eval(),
    ]
    for seed, ask in enumerate(asked, 2):
        other = served_again(seed)
        ask()
        assert route_of(stub).handle == route_of(other).handle
    assert same(torch.load(path), local(2).state_dict())
    assert not tr.connect(owner, zoo.Encoder, "again").training


def test_what_was_withdrawn_for_good_is_an_error(owner):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name="for good")
    tr.withdraw("for good", owner)
    for _ in range(2):
        with pytest.raises(StaleStubError, match="Encoder on owner: its module is gone"):
            tr.at_owner(stub).state_dict()


def test_a_state_is_that_of_one_module(owner, served_again, monkeypatch):
    stub = tr.connect(owner, zoo.Encoder, "again")
    seeds = iter(range(2, 9))

    def pieces_of_two(parts):
        first, *others = pieces(parts, 1)
        yield first
        served_again(next(seeds))
        stub(X)  # the stub finds it
        yield from others

    monkeypatch.setattr(module_state, "pieces", pieces_of_two)
    with pytest.raises(StaleStubError):
        stub.state_dict()
    with pytest.raises(StaleStubError):
        stub.load_state_dict(local(1).state_dict())
    monkeypatch.undo()
    assert same(stub.state_dict(), local(3).state_dict())
