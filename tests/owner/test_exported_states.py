"""The state of an exported module that was copied, saved or sent before it was hosted: it has the module's own keys."""

import copy

import pytest
import torch
from torch import nn

import torchremote as tr
from torchremote.errors import MismatchError, NotSavableError

from ..jit.export.zoo import Holding, OnTensor, X, saved_and_loaded

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
EXAMPLES = {"forward": X}


class Part(nn.Module):
    _version = 3

    def __init__(self):
        super().__init__()
        self.register_buffer("hidden", torch.ones(4), persistent=False)
        self.register_buffer("shown", torch.ones(4))
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x):
        return self.norm(x * self.hidden + self.shown)

    def _load_from_state_dict(self, state, prefix, versions, *args):
        if versions.get("version") != 3:
            state[f"{prefix}shown"] = state[f"{prefix}shown"] * 2
        super()._load_from_state_dict(state, prefix, versions, *args)


class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.part, self.linear = Part(), nn.Linear(4, 4)
        self.register_buffer("cache", torch.zeros(4), persistent=False)

    def forward(self, x):
        return self.linear(self.part(x)) + self.cache


class Dropping(Whole):
    """Leaves something out of its state."""

    def state_dict(self, *args, **kwargs):
        state = super().state_dict(*args, **kwargs)
        del state["linear.bias"]
        return state


class Extra(Whole):
    def get_extra_state(self):
        return torch.ones(2)

    def set_extra_state(self, state): ...


def sent(module):
    return module


WAYS = [sent, copy.deepcopy, saved_and_loaded, lambda module: saved_and_loaded(copy.deepcopy(module))]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cls", [Whole, Dropping])
def test_its_state_is_that_of_the_module(owner, tmp_path, way, cls):
    module, path = cls().eval(), tmp_path / "state.pt"
    here = module.state_dict()
    from_examples = tr.create(owner, OnTensor, evaluated, args=(cls,), examples=EXAMPLES)
    tr.at_owner(from_examples).checkpoint(path)
    exported = tr.exported(module, OnTensor, EXAMPLES)
    assert exported.state_dict().keys() == ({*here, "linear.bias"})
    stub = tr.create(owner, OnTensor, way(exported), checkpoint=path)
    state = tr.at_owner(stub).state_dict()
    assert list(state) == list(here)
    assert state._metadata == here._metadata
    assert stub.load_state_dict(here) == ([], [])
    assert stub.load_state_dict(state) == ([], [])
    with pytest.raises(MismatchError, match="version 3 in the module, which would convert it with Part's _load_from"):
        stub.load_state_dict(dict(here))


def evaluated(cls):
    return cls().eval()


@pytest.mark.parametrize("way", WAYS)
def test_what_is_lost_is_refused_as_for_the_module_itself(owner, way):
    stub = tr.create(owner, OnTensor, way(tr.exported(Extra().eval(), OnTensor, EXAMPLES)))
    with pytest.raises(NotSavableError, match="does not keep what its state_dict.. has under _extra_state"):
        tr.at_owner(stub).state_dict()


@pytest.mark.parametrize("way", WAYS)
def test_an_exported_part_of_a_scripted_module(owner, way):
    exported = tr.exported(Whole().eval(), OnTensor, EXAMPLES)
    stub = tr.create(owner, OnTensor, way(torch.jit.script(Holding(exported))))
    state = tr.at_owner(stub).state_dict()
    assert list(state) == [f"part.{name}" for name in Whole().state_dict()]
    with pytest.raises(MismatchError, match="of part.part, and version 3 in the module, which would convert it"):
        stub.load_state_dict(dict(state))


@pytest.mark.parametrize("way", WAYS)
def test_programs(owner, way):
    program = torch.export.export(Whole().eval(), X)
    stub = tr.create(owner, OnTensor, way(tr.exported({"forward": program}, OnTensor)))
    assert tr.at_owner(stub).state_dict().keys() == Whole().state_dict().keys()


def test_a_copy_here_shows_all_buffers():
    exported = tr.exported(Whole().eval(), OnTensor, EXAMPLES)
    assert {"cache", "part.hidden"} == saved_and_loaded(exported).state_dict().keys() - exported.state_dict().keys()
