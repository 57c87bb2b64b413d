"""Scripted modules whose class has a `train` of its own: see owner/part_modes.py."""

import copy
import threading

import pytest
import torch
import torch.distributed.rpc as rpc
from torch import nn

import torchremote as tr
from torchremote.jit.export import MIXED
from torchremote.owner import served

from ..jit.export.zoo import OnTensor, X, saved_and_loaded
from .test_modes_of_parts import Keeping, Raising, Trained, tracked

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Dropping(Trained):
    """Drops in evaluation, too, and does more than to set modes."""

    def train(self, mode=True):
        for part in self.children():
            part.train(mode)
        self.training = mode
        self.dropout.train()
        with torch.no_grad():
            self.linear.weight.zero_()
            self.linear.bias.requires_grad_(False)


class Containing(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Trained(), Keeping())

    def forward(self, x):
        return self.blocks(x)


def modes(module):
    return {name: part.training for name, part in module.named_modules() if not list(part.children())}


@pytest.fixture
def hosted(owner):
    """Hosts a module here. Returns it as it is hosted, and a stub of it."""

    def host(module):
        tr.serve(module, OnTensor, "own train", replace=True)
        return served.served_module("own train"), tr.connect(rpc.get_worker_info().name, OnTensor, "own train")

    yield host
    tr.withdraw("own train")


@pytest.mark.parametrize("cls", [Keeping, Dropping, Containing])
@pytest.mark.parametrize("through", [lambda module: module, copy.deepcopy, saved_and_loaded])
def test_modes_are_those_that_it_sets(hosted, cls, through):
    module = cls()
    scripted, _ = hosted(module)
    _, stub = hosted(through(scripted))
    scripted = served.served_module("own train")
    for mode in (True, False, True):
        module.train(mode)
        tr.at_owner(stub).train(mode)
        assert modes(scripted) == modes(module)
        assert scripted.training == mode


def test_a_frozen_norm_stays_frozen(owner):
    stub = tr.create(owner, OnTensor, Keeping)
    for _ in range(2):
        before = tracked(stub)
        tr.at_owner(stub).train()
        stub(X[0])
        assert tracked(stub) == before
        tr.at_owner(stub).eval()
        assert torch.equal(stub(X[0]), stub(X[0]))


def test_a_module_is_not_changed_by_finding_out(hosted):
    module = Dropping()
    before, weight = modes(module), module.linear.weight.clone()
    hosted(module)
    assert modes(module) == before
    assert torch.equal(module.linear.weight, weight)
    assert module.linear.bias.requires_grad
    assert not hasattr(module, MIXED)


class Locked(nn.Module):
    """Cannot be copied by copy.deepcopy, and neither can a part of it."""

    def __init__(self):
        super().__init__()
        self.kept = Keeping()
        self.lock = self.kept.lock = threading.Lock()
        self.used = self.kept.linear.weight * 2  # has a gradient, which deepcopy refuses

    def forward(self, x):
        return self.kept(x)


def test_a_module_with_what_cannot_be_copied_keeps_its_modes(hosted, caplog):
    module = Locked()
    with pytest.raises(Exception, match="deepcopy|pickle"):
        copy.deepcopy(module)
    before, weight = modes(module), module.kept.linear.weight.clone()
    scripted, stub = hosted(module)
    assert modes(module) == before
    assert torch.equal(module.kept.linear.weight, weight)
    for mode in (True, False, True):
        module.train(mode)
        tr.at_owner(stub).train(mode)
        assert modes(scripted) == modes(module)
    assert not caplog.records


class Uncopied(nn.Dropout):
    def __deepcopy__(self, memo):
        raise TypeError("there is one of me")


def test_of_a_module_that_cannot_be_copied_at_all_it_is_said(hosted, caplog):
    module = Keeping()
    module.one = Uncopied()
    _, stub = hosted(module)
    assert "Keeping cannot be copied, so what its train does is not known" in caplog.text
    assert "TypeError: there is one of me" in caplog.text
    tr.at_owner(stub).train()


def test_a_train_that_raises_sets_no_mode(hosted):
    scripted, stub = hosted(Raising())
    tr.at_owner(stub).eval()
    assert not any(modes(scripted).values())
