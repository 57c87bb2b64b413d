"""Stubs that are saved, loaded, copied and frozen: with plain torch calls, and connected again by worker and name."""

import copy
import io
import os
import pickle
import subprocess
import sys
import warnings
from typing import Dict, List

import pytest
import torch
import torch.distributed.rpc as rpc
from torch import Tensor, nn

import torchremote as tr
from torchremote import _torch
from torchremote.archive.inspect import stubs_in_archive
from torchremote.dropin.remote_module import _RemoteModule
from torchremote.errors import (
    InterfaceError,
    MismatchError,
    NotInitializedError,
    NotSavableError,
    PlaceError,
    ServedNameError,
)

from .. import gallery, zoo
from ..caller.test_calls import Deferring, Ranker
from ..group import play
from . import reader
from .archiving import encoder as encoder
from .archiving import saved

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
X = torch.ones(2, 8)


# -- alone, and inside models


def test_load_says_nothing_of_what_torch_deprecates(encoder, tmp_path):
    torch.jit.save(encoder, tmp_path / "stub.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_path, from_file = (
            tr.load(tmp_path / "stub.pt", "cpu"),
            tr.load(io.BytesIO((tmp_path / "stub.pt").read_bytes())),
        )
    assert torch.equal(from_path(X, 2.0), from_file(X, 2.0))


def test_a_stub_alone(encoder, tmp_path):
    torch.jit.save(encoder, tmp_path / "stub.pt")
    again = tr.load(tmp_path / "stub.pt")
    assert repr(again) == "EncoderStub(Encoder 'encoder' on owner/cpu, answers)"
    assert torch.equal(again(X, 2.0), zoo.LinearEncoder(seed=4)(X, 2.0))
    assert torch.equal(again.topk(X, k=3)[1], encoder.topk(X, k=3)[1])
    with pytest.raises(TypeError, match="topk"):
        again.topk(X, 3)  # keyword-only, as it was
    with pytest.raises(tr.TorchRemoteError, match=r"Encoder\.forward\.x: None is no Tensor"):
        again(None)
    assert torch.equal(tr.with_timeout(again, 3)(X), again(X))


@pytest.mark.parametrize("kind", [Ranker, Deferring])
def test_a_model_with_a_stub(encoder, kind):
    model = torch.jit.script(kind(encoder))
    expected = model(X)
    assert torch.equal(tr.load(saved(model))(X), expected)
    assert torch.equal(model(X), expected)  # saving changed nothing


def test_a_mode_that_was_set_before_reconnecting_is_warned_of(encoder, caplog):
    model = torch.jit.load(saved(torch.jit.script(Ranker(encoder))))
    model.eval()
    model = tr.reconnect(model)
    assert "'encoder' on owner is in training mode, and its stub in the other one: " in caplog.text
    assert "after reconnect()" in caplog.text
    caplog.clear()
    model.eval()
    assert not encoder.training
    tr.reconnect(model)
    model.train()
    tr.load(saved(torch.jit.script(Ranker(encoder))))
    assert caplog.text == ""


class Everything(nn.Module):
    """Stubs in all places that a model has for them, beside what is its own."""

    encoder: zoo.Encoder

    def __init__(self, encoder, painter):
        super().__init__()
        self.encoder = encoder
        self.plain = encoder
        self.towers = nn.ModuleList([encoder, nn.Linear(8, 8)])
        self.by_name = nn.ModuleDict({"a": encoder})
        self.inner = Ranker(encoder)
        self.tinting = painter
        self.linear = nn.Linear(8, 8)
        self.register_buffer("shift", torch.arange(8.0))

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x) + self.shift + self.encoder.forward(x) + self.plain(x)
        for tower in self.towers:
            x = tower(x)
        return self.by_name["a"](x) + self.inner(x) + self.tinting(x)


class Doubler:
    def forward(self, x: Tensor) -> Tensor: ...


class DoublerModule(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def test_stubs_anywhere_in_a_model(owner, encoder):
    doubler = tr.create(owner, Doubler, DoublerModule, name="doubler")
    model = torch.jit.script(Everything(encoder, doubler))
    archive = saved(model)
    assert [(stub.path, stub.name) for stub in stubs_in_archive(archive)] == [
        ("encoder", "encoder"),
        ("plain", "encoder"),
        ("towers.0", "encoder"),
        ("by_name.a", "encoder"),
        ("inner.encoder", "encoder"),
        ("tinting", "doubler"),
    ]
    archive.seek(0)
    again = tr.load(archive)
    assert torch.equal(again(X), model(X))
    assert isinstance(again.inner.encoder, type(encoder))  # Python's face, with its checks and errors
    assert [name for name, _ in again.named_parameters()] == [
        "towers.1.weight",
        "towers.1.bias",
        "linear.weight",
        "linear.bias",
    ]
    assert torch.equal(tr.load(saved(again))(X), model(X))  # and again
    rpc.rpc_sync(owner, tr.withdraw, ("doubler",))


class InAList(nn.Module):
    encoders: List[zoo.Encoder]
    by_name: Dict[str, zoo.Encoder]

    def __init__(self, *encoders):
        super().__init__()
        self.encoders = list(encoders)
        self.by_name = {"first": encoders[0]}

    def forward(self, x: Tensor) -> Tensor:
        for one in self.encoders:
            x = one.forward(x, 1.0)
        return self.by_name["first"].forward(x, 1.0)


def test_stubs_in_lists_and_dicts_of_a_model(owner, encoder, tmp_path):
    model = torch.jit.script(InAList(encoder, encoder))
    again = tr.load(saved(model))
    assert torch.equal(again(X), model(X))
    assert torch.equal(tr.reconnect(again)(X), model(X))
    with pytest.raises(NotSavableError, match="stubs in a list or dict is not sent"):
        rpc.rpc_sync(owner, type, (model,))
    file = tmp_path / "kept.pt"
    file.write_text("before")
    unnamed = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    with pytest.raises(NotSavableError, match="has no name"):
        torch.jit.save(torch.jit.script(InAList(unnamed)), file)
    assert file.read_text() == "before"


def test_what_is_loaded_without_us_runs_all_but_its_calls(encoder, tmp_path):
    model = torch.jit.script(Deferring(encoder))
    torch.jit.save(model, tmp_path / "model.pt")
    script = (
        "import sys, torch; model = torch.jit.load(sys.argv[1])\n"
        "assert 'torchremote' not in sys.modules\n"
        "try: model(torch.ones(2, 8))\n"
        "except torch.jit.Error as error: print(str(error).strip().splitlines()[-1])"
    )
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, tmp_path / "model.pt"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (
        "torchremote: Encoder.forward: the stub of 'encoder' on owner is not connected; "
        "call torchremote.reconnect(model)"
    ) in told.stdout, told.stderr


def test_a_disconnected_stub_tells_its_python_caller_too(encoder):
    loaded = torch.jit.load(saved(encoder))
    with pytest.raises(torch.jit.Error, match="the stub of 'encoder' on owner is not connected"):
        loaded(X)
    stub = tr.reconnect(loaded)
    assert stub(X).shape == (2, 8)


def test_a_module_beside_python(encoder):
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = torch.jit.load(saved(torch.jit.script(Ranker(encoder))))

    holder = Holder()
    assert tr.reconnect(holder) is holder
    assert torch.equal(holder.part.encoder(X), encoder(X))


def test_loading_twice(encoder):
    archive = saved(torch.jit.script(Ranker(encoder)))
    one = tr.load(archive)
    archive.seek(0)
    other = tr.load(archive)
    assert torch.equal(one(X), other(X))


# -- what is refused


def test_a_stub_without_a_name_is_refused_before_the_file_is_touched(owner, tmp_path):
    path = tmp_path / "model.pt"
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    model = torch.jit.script(Ranker(stub))
    for module in (stub, model):
        with pytest.raises(NotSavableError, match="Encoder: this stub's module has no name.*name=..."):
            torch.jit.save(module, path)
        with pytest.raises(NotSavableError, match="no name"):
            module.save(str(path))
        with pytest.raises(NotSavableError, match="no name"):
            saved(module)
    assert not path.exists()
    path.write_text("precious")
    with pytest.raises(NotSavableError):
        torch.jit.save(model, path)
    assert path.read_text() == "precious"
    assert torch.equal(model(X), torch.jit.script(Ranker(stub))(X))


@pytest.mark.parametrize("interface", [gallery.Painter, gallery.Choosing])
def test_what_torch_would_write_wrongly_is_refused(owner, interface):
    module = {gallery.Painter: gallery.PainterModule, gallery.Choosing: gallery.ChoosingModule}[interface]
    stub = tr.create(owner, interface, module, name="unsavable")
    with pytest.raises(NotSavableError, match="torch cannot load (an enum with a value|a NamedTuple without fields)"):
        saved(stub)
    rpc.rpc_sync(owner, tr.withdraw, ("unsavable",))


def test_pickle_says_what_to_do_instead(encoder):
    with pytest.raises(NotSavableError, match=r"Encoder: .*torch\.jit\.save"):
        pickle.dumps(encoder)


def test_a_file_that_is_not_there(tmp_path):
    for file in ("nope.pt", tmp_path / "nope.pt"):
        with pytest.raises(FileNotFoundError, match=r"nope\.pt"):
            tr.load(file)
    with pytest.raises(IsADirectoryError):
        tr.load(tmp_path)
    (tmp_path / "text.pt").write_text("text")
    with pytest.raises(RuntimeError, match=r"^\S+text\.pt: torch\.jit\.load cannot read it: .*zip archive"):
        tr.load(tmp_path / "text.pt")


def test_reconnecting_says_what_is_wrong(owner, encoder):
    loaded = torch.jit.load(saved(torch.jit.script(Ranker(encoder))))
    with pytest.raises(InterfaceError, match="no stub in this Linear; a frozen model has none"):
        tr.reconnect(nn.Linear(1, 1))
    with pytest.raises(
        PlaceError, match="workers={'elsewhere': 'owner'}: no stub is on 'elsewhere'; stubs are on owner"
    ):
        tr.reconnect(loaded, workers={"elsewhere": "owner"})
    with pytest.raises(PlaceError, match=r"workers=\['owner'\]: not a mapping"):
        tr.reconnect(loaded, workers=["owner"])
    with pytest.raises(PlaceError, match=r"^workers\['owner'\]='caller/cuda:7': .*name the worker alone: 'caller'"):
        tr.reconnect(loaded, workers={"owner": "caller/cuda:7"})
    for no_name in (3, ["caller"]):
        with pytest.raises(PlaceError, match=r"^workers\['owner'\]=.*: not a string; write 'worker' or 'rank:N'$"):
            tr.reconnect(loaded, workers={"owner": no_name})
    with pytest.raises(PlaceError, match=r"^workers\['owner'\]='nobody': there is no worker 'nobody'"):
        tr.reconnect(loaded, workers={"owner": "nobody"}, wait=1000)  # nobody can join a group of init_rpc
    with pytest.raises(ServedNameError, match=r"'encoder': not served by the worker '\w+'"):
        tr.reconnect(loaded, workers={"owner": "caller"})
    with pytest.raises(torch.jit.Error, match="is not connected"):
        loaded(X)


def test_loading_without_a_group_names_the_stub(owner, encoder, monkeypatch, tmp_path):
    torch.jit.save(torch.jit.script(Ranker(encoder)), tmp_path / "ranker.pt")
    monkeypatch.setattr(_torch, "rpc_running", lambda: False)
    with pytest.raises(NotInitializedError, match=r"^Encoder 'encoder' on owner: RPC is not running in this process;"):
        tr.load(tmp_path / "ranker.pt")
    with pytest.raises(NotInitializedError, match=r"^workers\['owner'\]='caller': RPC is not running"):
        tr.load(tmp_path / "ranker.pt", workers={"owner": "caller"})


def test_a_module_that_moved_to_another_worker(owner, encoder):
    loaded = torch.jit.load(saved(torch.jit.script(Ranker(encoder))))
    tr.serve(zoo.LinearEncoder(seed=4), zoo.Encoder, "encoder")
    moved = tr.reconnect(loaded, workers={"owner": "caller"})
    assert repr(moved.encoder) == "EncoderStub(Encoder 'encoder' on caller/cpu, answers)"
    assert torch.equal(moved.encoder(X), encoder(X))
    assert stubs_in_archive(saved(moved))[0].worker == "caller"
    tr.withdraw("encoder")


def test_a_connected_stub_stays_the_same_object(owner, encoder):
    other = tr.connect(owner, zoo.Encoder, "encoder")
    model = nn.Sequential(encoder, Ranker(other), torch.jit.script(Ranker(encoder)))
    other.note, other.reset = "mine", lambda: "reset here"
    tr.serve(zoo.LinearEncoder(seed=5).eval(), zoo.Encoder, "encoder")
    assert tr.reconnect(model, workers={owner: "caller"}) is model
    assert model[0] is encoder
    assert model[1].encoder is other
    assert (other.note, other.reset()) == ("mine", "reset here")
    expected = zoo.LinearEncoder(seed=5)(X, 1.0)
    for stub in (encoder, other, model[2].encoder):
        assert torch.equal(stub(X), expected)
        assert torch.equal(stub.forward_many([(X,)])[0], expected)
    assert tr.reconnect(encoder) is encoder
    assert not encoder.training
    tr.connect(owner, zoo.Encoder, "encoder").train()  # the module to which they led
    assert not encoder.training
    tr.connect("caller", zoo.Encoder, "encoder").train()
    assert encoder.training
    tr.withdraw("encoder")


def test_a_remote_module_stays_one_when_it_is_reconnected(owner, encoder):
    place = f"{owner}/cpu"
    module = _RemoteModule(
        place, zoo.LinearEncoder, kwargs={"seed": 4}, _module_interface_cls=zoo.Encoder, name="typed"
    )
    model = nn.ModuleDict({"part": module})
    tr.reconnect(model)
    assert model["part"] is module
    assert torch.equal(module(X), encoder(X))
    assert len(model["part"].remote_parameters()) == len(list(zoo.LinearEncoder().parameters()))
    tr.withdraw("typed", owner)


def test_an_owner_whose_interface_differs_is_refused_method_by_method(owner, encoder):
    archive = saved(encoder)

    class Richer:
        def forward(self, x: Tensor, scale: float = 9.0) -> Tensor: ...
        def topk(self, x: Tensor, k: int) -> tuple[Tensor, Tensor]: ...
        def reset(self) -> None: ...
        def fail(self, x: Tensor) -> Tensor: ...
        def more(self) -> int: ...

    tr.serve(zoo.RicherModule(), Richer, "encoder")
    rich = tr.reconnect(torch.jit.load(archive), workers={"owner": "caller"})
    assert torch.equal(rich(X), X)  # its own default, 1.0, and not 9.0
    tr.withdraw("encoder")
    tr.serve(zoo.OtherModule(), zoo.Other, "encoder")
    archive.seek(0)
    with pytest.raises(MismatchError) as caught:
        tr.load(archive, workers={"owner": "caller"})
    tr.withdraw("encoder")
    told = str(caught.value)
    assert "fail: the module has no such scripted method" in told
    assert "forward.scale: the interface passes float, the module takes int" in told
    assert "reset: as it should be" in told
    assert "topk.k: the module takes no such argument" in told


# -- copies, and what TorchScript makes of a model


def test_a_deep_copy_is_connected_by_reconnect(encoder):
    model = torch.jit.script(Ranker(encoder))
    copied = copy.deepcopy(model)
    with pytest.raises(torch.jit.Error, match="the stub of 'encoder' on owner is not connected"):
        copied(X)
    assert torch.equal(tr.reconnect(copied)(X), model(X))
    assert torch.equal(copy.deepcopy(Ranker(encoder)).encoder(X), encoder(X))  # in Python, a stub copies itself


def test_a_deep_copy_of_a_model_with_an_unnamed_stub_is_refused(owner):
    model = torch.jit.script(Ranker(tr.create(owner, zoo.Encoder, zoo.LinearEncoder)))
    with pytest.raises(torch.jit.Error, match="cannot be saved, nor copied or frozen inside a scripted model"):
        copy.deepcopy(model)
    with pytest.raises(torch.jit.Error, match="cannot be saved, nor copied or frozen inside a scripted model"):
        torch.jit.freeze(model.eval())


@pytest.mark.parametrize("freeze", [torch.jit.freeze, torch.jit.optimize_for_inference])
@pytest.mark.parametrize("connected", [True, False])
def test_what_is_frozen_says_that_it_cannot_call(encoder, freeze, connected):
    model = torch.jit.script(Ranker(encoder)).eval()
    frozen = freeze(model if connected else torch.jit.load(saved(model)))
    with pytest.raises(torch.jit.Error, match="the stub of 'encoder' on owner is not connected"):
        frozen(X)
    with pytest.raises(InterfaceError, match="a frozen model has none, .* freeze only parts without stubs"):
        tr.reconnect(frozen)
    assert model(X).shape == (2, 8)


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).relu()


class Split(nn.Module):
    encoder: zoo.Encoder

    def __init__(self, encoder, head):
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder.forward(x))


def test_the_parts_around_a_stub_may_be_frozen(encoder):
    head = Head().eval()
    frozen = torch.jit.load(saved(torch.jit.freeze(torch.jit.script(head))))  # torch puts no other into a model
    model = torch.jit.script(Split(encoder, frozen))
    again = tr.load(saved(model))
    assert torch.allclose(again(X), head(encoder(X)))


# -- other processes


def serving(store):
    tr.serve(zoo.LinearEncoder(seed=4), zoo.Encoder, "encoder")
    tr.serve(gallery.TintingModule(), gallery.Tinting, "tinting")
    store.set("served", "yes")
    store.wait(["done"])


def saving(store):
    store.wait(["served"])
    archive = os.environ["TORCHREMOTE_TEST_ARCHIVE"]
    torch.jit.save(torch.jit.script(Ranker(tr.connect("serving", zoo.Encoder, "encoder"))), archive)
    torch.jit.save(tr.connect("serving", gallery.Tinting, "tinting"), f"{archive}.tinting")
    store.set("done", "yes")


def test_processes_that_have_only_the_archives(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHREMOTE_TEST_ARCHIVE", str(tmp_path / "model.pt"))
    play(tmp_path, serving, saving)
    _, told = play(tmp_path, serving, reader.reading)  # the owner is another process, too
    assert "tests.zoo: None" in told
    local = torch.jit.script(
        Ranker(_torch.script_module(zoo.LinearEncoder(seed=4), ["forward", "topk", "reset", "fail"]))
    )
    assert f"model: {local(X).sum():.4f}" in told
    assert "tinting: Color.GREEN torchremote.jit.script.classes" in told  # a class of our own, where the user's is not
