"""Modules that begin with the state of their last checkpoint."""

import os
import resource
import signal

import pytest
import torch

import torchremote as tr
from torchremote.errors import (
    ArgumentError,
    CreationError,
    MismatchError,
    NotSavableError,
    RemoteError,
    ServedNameError,
)
from torchremote.owner import checkpoints, modules

from .. import zoo
from ..waiting import hosted, until

X = torch.ones(2, 8)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "encoder.pt"


def create(owner, path, seed, **options):
    return tr.create(owner, zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": seed}, checkpoint=path, **options)


def expected(seed):
    return zoo.LinearEncoder.output(seed, X)


def test_a_module_begins_with_what_is_there(owner, path):
    first = create(owner, path, 1)
    assert torch.equal(first(X), expected(1))
    assert not path.exists()
    tr.at_owner(first).checkpoint()
    assert torch.equal(create(owner, str(path), 2)(X), expected(1))
    tr.at_owner(first).load_state_dict(zoo.LinearEncoder(seed=3).state_dict())
    tr.at_owner(first).checkpoint()
    assert torch.equal(tr.create_async(owner, *made(4), checkpoint=path).wait()(X), expected(3))
    assert [file.name for file in path.parent.iterdir()] == ["encoder.pt"]


def made(seed):
    return zoo.Encoder, zoo.LinearEncoder, (), {"seed": seed}


def test_another_path_does_not_change_its_own(owner, path, tmp_path):
    stub = create(owner, path, 1)
    tr.at_owner(stub).checkpoint(tmp_path / "other.pt")
    assert not path.exists()
    tr.at_owner(stub).checkpoint()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["encoder.pt", "other.pt"]


def test_many_have_one_each(owner, tmp_path):
    paths = [tmp_path / "a.pt", tmp_path / "b.pt"]
    kwargs = [{"seed": 1}, {"seed": 2}]
    for stub in tr.create_many([owner] * 2, zoo.Encoder, zoo.LinearEncoder, kwargs=kwargs, checkpoints=paths):
        tr.at_owner(stub).checkpoint()
    again = tr.create_many([owner] * 2, zoo.Encoder, zoo.LinearEncoder, checkpoints=paths[::-1])
    assert [torch.equal(stub(X), expected(seed)) for stub, seed in zip(again, (2, 1), strict=True)] == [True, True]
    with pytest.raises(ArgumentError, match="checkpoints: 2 of them for 1 modules"):
        tr.create_many([owner], zoo.Encoder, zoo.LinearEncoder, checkpoints=paths)


def test_a_served_module_has_one_too(owner, path):
    module = zoo.LinearEncoder(seed=1)
    torch.save(zoo.LinearEncoder(seed=2).state_dict(), path)
    tr.serve(module, zoo.Encoder, "kept", checkpoint=path)
    assert torch.equal(module(X, 1.0), expected(2)), "they share their parameters"
    with torch.no_grad():
        module.load_state_dict(zoo.LinearEncoder(seed=3).state_dict())
    tr.at_owner(tr.connect("caller", zoo.Encoder, "kept")).checkpoint()
    assert torch.equal(torch.load(path)["linear.weight"], module.linear.weight)
    tr.withdraw("kept")


def test_it_follows_the_module(owner, path):
    first = create(owner, path, 1, name="followed")
    tr.at_owner(first).checkpoint()
    replaced = create(owner, path.with_name("new.pt"), 2, name="followed", if_exists="replace")
    tr.at_owner(first).checkpoint()  # of the module that is there now
    assert path.with_name("new.pt").exists()
    assert torch.equal(replaced(X), expected(2))
    found = create(owner, path, 3, name="followed", if_exists="connect")
    assert torch.equal(found(X), expected(2)), "a module that is there stays as it is"
    with pytest.raises(ServedNameError):
        create(owner, path, 3, name="followed")
    tr.withdraw("followed", owner)


def test_a_module_that_comes_meanwhile_does_not_get_into_the_file_of_the_other(owner, path, monkeypatch):
    paths = path, path.with_name("new.pt")

    def serve(seed):
        tr.serve(zoo.LinearEncoder(seed=seed), zoo.Encoder, "kept", replace=True, checkpoint=paths[seed])

    def between_calls(entry, function):
        monkeypatch.undo()
        serve(1)
        return modules.between_calls(entry, function)

    serve(0)
    monkeypatch.setattr(modules, "between_calls", between_calls)
    tr.at_owner(tr.connect("caller", zoo.Encoder, "kept")).checkpoint()
    assert not paths[0].exists()
    assert torch.equal(torch.load(paths[1])["linear.weight"], zoo.LinearEncoder(seed=1).linear.weight)
    tr.withdraw("kept")


class Layer:
    def forward(self, input: torch.Tensor) -> torch.Tensor: ...


def test_an_exported_module(owner, path):
    options = {"args": (8, 4), "checkpoint": path, "examples": {"forward": (X,)}}
    first = tr.create(owner, Layer, torch.nn.Linear, **options)
    tr.at_owner(first).checkpoint()
    assert torch.equal(tr.create(owner, Layer, torch.nn.Linear, **options)(X), first(X))


def test_a_scripted_module(owner, path):
    one, other = (torch.jit.script(torch.nn.Linear(8, 4)) for _ in range(2))
    tr.at_owner(tr.create(owner, Layer, one, checkpoint=path)).checkpoint()
    assert torch.equal(tr.create(owner, Layer, other, checkpoint=path)(X), one(X))


def test_a_module_that_has_none_says_so(owner):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    with pytest.raises(ArgumentError, match=r"Encoder on owner: checkpoint\(\): .* without a checkpoint; give a path"):
        tr.at_owner(stub).checkpoint()


def test_what_is_no_checkpoint_leaves_nothing(owner, path):
    before = hosted(owner)
    path.write_text("no archive")
    with pytest.raises(
        CreationError, match="encoder.pt' cannot be read .UnpicklingError.; move it away to begin without it"
    ) as found:
        create(owner, path, 1, name="nothing")
    assert "weights_only" not in str(found.value)  # torch says how to run what is in the file
    torch.save([torch.ones(1)], path)
    with pytest.raises(CreationError, match="is no mapping of tensors"):
        create(owner, path, 1, name="nothing")
    state = zoo.LinearEncoder(8).state_dict()
    torch.save({"model": state, "optimizer": {"state": {}}, "step": 3}, path)
    with pytest.raises(
        CreationError, match=r"no mapping of tensors; save its \[\"model\"\] alone, there or in another file"
    ):
        create(owner, path, 1, name="nothing")
    for prefix in ("module.", "module._orig_mod."):
        torch.save({prefix + name: value for name, value in state.items()}, path)
        with pytest.raises(MismatchError, match="does not fit the module: all its names begin with") as raised:
            create(owner, path, 1, name="nothing")
        assert f'take "{prefix}" off the names' in str(raised.value)
        assert "is missing" not in str(raised.value)
    torch.save({**dict(list(state.items())[1:]), "more": X}, path)
    with pytest.raises(MismatchError, match="does not fit the module: .* is missing; more is not the module's; create"):
        create(owner, path, 1, name="nothing")
    torch.save(zoo.LinearEncoder(16).state_dict(), path)
    with pytest.raises(MismatchError, match=r"linear.weight has shape \(16, 16\), and \(8, 8\) in the module"):
        create(owner, path, 1, name="nothing")
    with pytest.raises(CreationError, match="its folder is not there; make it on the owner"):
        create(owner, path.with_name("none") / "x.pt", 1, name="nothing")
    frozen = torch.jit.freeze(torch.jit.script(torch.nn.Linear(2, 2)).eval())
    with pytest.raises(NotSavableError, match="frozen"):
        tr.create(owner, Layer, frozen, checkpoint=path)
    until(lambda: hosted(owner) <= before)


def test_a_file_that_cannot_be_written_is_named_and_no_other(owner, tmp_path):
    remote = tr.at_owner(tr.create(owner, zoo.Encoder, zoo.LinearEncoder))
    (tmp_path / "file").write_text("")
    for path, why in (
        (tmp_path / "none" / "x.pt", "its folder is not there; make it on the owner"),
        (tmp_path / "file" / "x.pt", "its folder is not there; make it on the owner"),
        (tmp_path, "Is a directory"),
        (tmp_path / ("x" * 255), "File name too long"),
    ):
        with pytest.raises(RemoteError) as caught:
            remote.checkpoint(path)
        assert str(caught.value) == f"Encoder on owner: checkpoint({str(path)!r}): {why}"


@pytest.mark.parametrize("path", [3, "", b"bytes"])
def test_what_is_no_path_is_refused_at_once(owner, path):
    with pytest.raises(ArgumentError, match="^checkpoint=.*: not a path; write one as a string"):
        create(owner, path, 1)
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    with pytest.raises(ArgumentError, match="^path=.*: not a path; write one as a string"):
        tr.at_owner(stub).checkpoint(path)


@pytest.mark.parametrize("replace", [False, True])
def test_a_module_that_is_not_served_keeps_its_state(path, replace):
    torch.save(zoo.LinearEncoder(seed=1).state_dict(), path)
    tr.serve(zoo.SlowLoop() if replace else zoo.LinearEncoder(), zoo.Sleeper if replace else zoo.Encoder, "taken")
    module = zoo.LinearEncoder(seed=2)
    try:
        with pytest.raises(MismatchError if replace else ServedNameError):
            tr.serve(module, zoo.Encoder, "taken", checkpoint=path, replace=replace)
    finally:
        tr.withdraw("taken")
    assert torch.equal(module.linear.weight, zoo.LinearEncoder(seed=2).linear.weight)


def test_a_name_that_is_taken_is_refused_before_the_checkpoint_is_read(owner, path):
    path.write_bytes(b"no checkpoint")
    tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name="taken")
    try:
        with pytest.raises(ServedNameError, match="'taken': the worker 'owner' serves Encoder"):
            create(owner, path, 1, name="taken")
        with pytest.raises(CreationError, match="cannot be read"):
            create(owner, path, 1, name="taken", if_exists="replace")
    finally:
        tr.withdraw("taken", owner)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # of torch 2.11
def test_a_state_that_cannot_be_copied_changes_nothing(path):
    state = zoo.LinearEncoder(seed=1).state_dict()
    *_, last = state
    for wrong, reason in (
        (state[last].to_sparse(), "is sparse_coo, and strided in the module"),
        (state[last].to("meta"), "is without values, and strided"),
        (state[last].to(torch.complex64), "is complex, and torch.float32 in the module"),
    ):
        torch.save({**state, last: wrong}, path)
        module = zoo.LinearEncoder(seed=2)
        with pytest.raises(MismatchError, match=reason):
            tr.serve(module, zoo.Encoder, "not served", checkpoint=path)
        assert torch.equal(module.linear.weight, zoo.LinearEncoder(seed=2).linear.weight)


@pytest.mark.parametrize("wrong", ["", "a\0b", "\ud800", b"/tmp/x", 3])
def test_what_is_no_path_is_refused_by_create_and_checkpoint(owner, path, wrong):
    with pytest.raises(ArgumentError, match="not a path"):
        create(owner, wrong, 1)
    with pytest.raises(ArgumentError, match="not a path"):
        tr.at_owner(create(owner, path, 1)).checkpoint(wrong)


@pytest.mark.parametrize("name", ["\ud800", "", 3])
def test_what_is_no_name_is_refused(owner, name):
    for ask in (
        lambda: tr.serve(zoo.LinearEncoder(), zoo.Encoder, name),
        lambda: tr.create(owner, *made(1)[:2], name=name),
        lambda: tr.connect(owner, zoo.Encoder, name),
    ):
        with pytest.raises(ServedNameError, match="a served name is a string"):
            ask()


def test_what_a_killed_process_has_begun_to_write_is_removed_by_the_next(owner, path):
    def killed():
        torch.save = lambda state, file: os.kill(os.getpid(), signal.SIGKILL)
        checkpoints._remove_unfinished = lambda target: None
        modules.entry_at = lambda handle: (entry, None)
        checkpoints.checkpoint_here(0, str(path))

    tr.serve(zoo.LinearEncoder(), zoo.Encoder, "writes")
    entry = modules.by_name["writes"]
    for _ in range(2):
        child = os.fork()
        if child == 0:
            killed()
        os.waitpid(child, 0)
    begun = [file.name for file in path.parent.iterdir()]
    assert len(begun) == 2
    (last,) = [name for name in begun if f".{child}." in name]
    running = path.with_name(last.replace(f".{child}.", f".{os.getpid()}."))
    running.touch()  # as another thread of this process would
    tr.at_owner(tr.create(owner, *made(1)[:2])).checkpoint(path)
    tr.withdraw("writes")
    assert set(path.parent.iterdir()) == {path, running}


@pytest.mark.parametrize("damage", [b"\1", bytes(100)], ids=["a byte", "zeros"])
def test_a_damaged_file_is_refused(owner, path, damage):
    torch.save(zoo.LinearEncoder(seed=1).state_dict(), path)
    weight = zoo.LinearEncoder(seed=1).linear.weight.detach().numpy().tobytes()
    written = path.read_bytes()
    at = written.index(weight) + 10
    path.write_bytes(written[:at] + damage + written[at + len(damage) :])
    with pytest.raises(
        CreationError, match="encoder.pt' is damaged: '.*data/.*' in it is .*; put a copy of the file in"
    ):
        create(owner, path, 2)
    path.write_bytes(written)
    assert torch.equal(create(owner, path, 2)(X), expected(1))


def test_files_without_checksums_are_read(owner, path):
    state = zoo.LinearEncoder(seed=1).state_dict()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(create(owner, path, 2)(X), expected(1))
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert torch.equal(create(owner, path, 2)(X), expected(1))


def test_a_file_that_may_not_be_so_large_is_named(path):
    tr.serve(zoo.LinearEncoder(seed=1), zoo.Encoder, "large")
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, most))
    try:
        with pytest.raises(RemoteError, match="File too large; .* unchanged; start the owner with a higher"):
            tr.at_owner(tr.connect("caller", zoo.Encoder, "large")).checkpoint(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
        tr.withdraw("large")


class Same:
    def forward(self, x: torch.Tensor) -> torch.Tensor: ...


class Overlapping(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("expanded", torch.zeros(1).expand(4))
        self.register_buffer("windows", torch.arange(6.0).unfold(0, 3, 1))
        self.register_buffer("woven", torch.zeros(8).as_strided((3, 2), (2, 3)))  # its steps cross, and none meet
        self.register_buffer("crossing", torch.zeros(12).as_strided((4, 2), (2, 4)))
        self.register_buffer("turned", torch.zeros(2, 3).t()[::2])
        self.register_buffer("single", torch.zeros(3).expand(1, 3))
        self.register_buffer("empty", torch.zeros(1).expand(0, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_elements_that_share_memory_are_refused_before_anything_is_written(owner, path):
    refused = "expanded, windows, crossing: elements share memory, .*clone"
    module = tr.at_owner(tr.create(owner, Same, Overlapping))
    state = module.state_dict()
    assert state["windows"].tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]
    with pytest.raises(NotSavableError, match=refused):
        module.checkpoint(path)
    with pytest.raises(NotSavableError, match=refused):
        module.load_state_dict({name: value + 1 for name, value in state.items()})
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    others = {name: torch.ones(state[name].shape) for name in ("woven", "turned", "single", "empty")}
    module.load_state_dict(others, strict=False)
    assert all(torch.equal(value, others.get(name, state[name])) for name, value in module.state_dict().items())
    with pytest.raises(NotSavableError, match=refused):
        tr.create(owner, Same, Overlapping, checkpoint=path)
    with pytest.raises(NotSavableError, match=refused):
        tr.serve(Overlapping(), Same, "overlapping", checkpoint=path)
    assert not path.exists()
