"""Training modes: which mode the next module of a name has, what stubs show, and modes that are refused."""

import logging
import threading

import pytest
import torch
import torch.distributed.rpc as rpc
from torch import nn

import torchremote as tr
from torchremote.errors import ArgumentError
from torchremote.owner import modes, served

from ..waiting import until
from .test_as_module import Drop, Dropping, Holding, X, drops, exported_in_training, made_in_evaluation, set_mode


@pytest.fixture
def stub(owner):
    yield tr.create(owner, Dropping, Drop, name="named")
    tr.withdraw("named", owner)


def serve(make):
    tr.serve(make(), Dropping, "named", replace=True)


def replace_by_create(owner, make):
    return tr.create(owner, Dropping, make, name="named", if_exists="replace")


def replace_by_create_many(owner, make):
    return tr.create_many([owner], Dropping, make, names=["named"], if_exists="replace")[0]


def replace_by_serve(owner, make):
    rpc.rpc_sync(owner, serve, (make,))
    return tr.connect(owner, Dropping, "named")


REPLACE = [replace_by_create, replace_by_create_many, replace_by_serve]


@pytest.mark.parametrize("sets", ["this process", "another one"])
@pytest.mark.parametrize("replace", REPLACE)
def test_a_mode_that_was_set_is_that_of_the_module_that_takes_the_place(stub, owner, replace, sets):
    for mode, make in ((False, Drop), (True, made_in_evaluation)):
        if sets == "this process":
            stub.train(mode)
        else:
            rpc.rpc_sync(owner, set_mode, (stub, mode))
        new = replace(owner, make)
        assert [drops(new), drops(stub)] == [mode, mode]
        assert [new.training, stub.training] == [mode, mode]


@pytest.mark.parametrize("replace", REPLACE)
def test_a_mode_that_nobody_set_is_that_of_the_module_that_comes(stub, owner, replace):
    new = replace(owner, made_in_evaluation)
    assert [drops(stub), new.training, stub.training] == [False, False, False]
    assert replace(owner, Drop).training
    assert stub.training


def test_a_module_that_refuses_the_mode_takes_the_place_all_the_same(owner, caplog):
    where = rpc.get_worker_info().name
    tr.serve(Drop(), Dropping, "here")
    try:
        here = tr.connect(where, Dropping, "here").eval()
        tr.serve(exported_in_training(), Dropping, "here", replace=True)
        assert drops(here)
        assert tr.connect(where, Dropping, "here").training
        assert here.training
        (said,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert said.startswith("torchremote: 'here': the new module refuses the mode that was set: the module was exp")
        tr.serve(Drop(), Dropping, "here", replace=True)
        assert not drops(here)  # what was asked for is not forgotten
    finally:
        tr.withdraw("here")


def test_a_module_that_cannot_take_the_place_keeps_its_mode(owner):
    tr.serve(Drop(), Dropping, "here")
    try:
        tr.connect(rpc.get_worker_info().name, Dropping, "here").eval()

        class Other:
            def forward(self, x: int) -> int: ...

        class Doubling(nn.Module):
            def forward(self, x: int) -> int:
                return 2 * x

        doubling = torch.jit.script(Doubling())
        with pytest.raises(tr.errors.MismatchError):
            tr.serve(doubling, Other, "here", replace=True)
        assert doubling.training
    finally:
        tr.withdraw("here")


@pytest.mark.parametrize("when", ["exchange", "give_mode"])
def test_a_mode_that_is_set_while_a_module_takes_the_place_is_not_lost(owner, monkeypatch, when):
    tr.serve(Drop(), Dropping, "here")
    try:
        here = tr.connect(rpc.get_worker_info().name, Dropping, "here")
        replacing = getattr(served, when)

        def replace_and_set(*args):
            result = None if when == "exchange" else replacing(*args)
            here.eval()
            return replacing(*args) if when == "exchange" else result

        monkeypatch.setattr(served, when, replace_and_set)
        tr.serve(Drop(), Dropping, "here", replace=True)
        assert not drops(here)
    finally:
        tr.withdraw("here")


def test_a_mode_that_is_set_in_a_module_that_has_gone_is_set_in_the_next(owner, monkeypatch):
    tr.serve(Drop(), Dropping, "here")
    try:
        here = tr.connect(rpc.get_worker_info().name, Dropping, "here")
        set_one, replaced = modes._set_mode, []

        def set_in_the_old(entry, mode, hosting):
            if not replaced:
                replaced.append(True)
                thread = threading.Thread(target=tr.serve, args=(Drop(), Dropping, "here"), kwargs={"replace": True})
                thread.start()
                thread.join()
            return set_one(entry, mode, hosting)

        monkeypatch.setattr(modes, "_set_mode", set_in_the_old)
        here.eval()
        assert replaced
        assert not drops(here)
    finally:
        tr.withdraw("here")


def test_a_new_stub_has_all_show_the_mode_that_the_owner_says(stub, owner):
    rpc.rpc_sync(owner, set_mode, (stub, False))
    assert stub.training  # nobody has said anything yet
    assert not tr.connect(owner, Dropping, "named").training
    assert not stub.training


def test_an_answer_that_is_older_than_the_mode_set_here_is_not_shown(stub, owner):
    pending = tr.connect_async(owner, Dropping, "named")
    until(pending.done)
    stub.eval()
    assert not pending.wait().training
    assert not stub.training


class Model(nn.Module):
    def __init__(self, *stubs):
        super().__init__()
        self.parts = nn.ModuleList(stubs)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("refuses_at", ["the owner", "another owner"])
def test_a_mode_that_one_part_refuses_is_that_of_none(stub, owner, refuses_at, order):
    example = {"forward": (X,)}
    where = owner if refuses_at == "the owner" else rpc.get_worker_info().name
    refusing = tr.create(where, Dropping, Drop, examples=example)
    other = tr.create(owner, Dropping, Drop)
    model = Model(*[stub, refusing, other][::order])
    with pytest.raises(ArgumentError, match="exported in training mode alone"):
        model.eval()
    assert [part.training for part in model.parts] == [True] * 3
    assert all(drops(part) for part in model.parts)
    assert tr.connect(owner, Dropping, "named").training
    del model, refusing
    nn.Sequential(stub, torch.jit.script(Holding(other))).eval()
    assert [drops(stub), drops(other)] == [False, False]


def test_a_mode_that_one_part_refuses_is_that_of_none_also_if_another_was_served_again(stub, owner):
    tr.withdraw("named", owner)
    tr.create(owner, Dropping, Drop, name="named")
    refusing = tr.create(owner, Dropping, Drop, examples={"forward": (X,)})
    with pytest.raises(ArgumentError, match="exported in training mode alone"):
        Model(stub, refusing).eval()
    assert drops(stub)
    assert stub.training
