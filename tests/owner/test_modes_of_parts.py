"""Exported modules whose parts are in other modes than they are: see jit/export/modes.py, Note [Modes of parts]."""

import copy

import pytest
import torch
import torch.distributed.rpc as rpc
from torch import nn

import torchremote as tr
from torchremote.errors import ArgumentError

from ..jit.export.zoo import Holding, OnTensor, X, saved_and_loaded

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
EXAMPLES = {"forward": X}
COUNT = "norm.num_batches_tracked"


class Trained(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.norm, self.dropout = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout()

    def forward(self, x):
        return self.dropout(self.norm(self.linear(x)))


class Keeping(Trained):
    """Leaves its norm in evaluation."""

    def train(self, mode=True):
        super().train(mode)
        self.norm.eval()
        return self


class Raising(Trained):
    def train(self, mode=True):
        raise NotImplementedError


def with_a_frozen_norm(cls=Trained):
    module = cls()
    module.norm.eval()
    return module


def that_drops_in_evaluation():
    module = Trained().eval()
    module.dropout.train()
    return module


def in_both_modes():
    return tr.exported(Keeping().train(), OnTensor, EXAMPLES, both_modes=True)


def tracked(stub):
    return int(tr.at_owner(stub).state_dict()[COUNT])


@pytest.mark.parametrize("cls", [Trained, Raising])
def test_a_mode_that_would_change_a_part_is_refused(owner, cls):
    stub = tr.create(owner, OnTensor, with_a_frozen_norm, args=(cls,), examples=EXAMPLES)
    stub(X[0])
    said = r"part norm was exported in evaluation mode, and train\(\) would set it to training mode, which the graphs"
    for set_mode in (tr.at_owner(stub).train, stub.train):
        with pytest.raises(ArgumentError, match=said):
            set_mode()
    stub(X[0])
    assert tracked(stub) == 0


def test_a_dropout_that_drops_in_evaluation_goes_on(owner):
    stub = tr.create(owner, OnTensor, that_drops_in_evaluation, examples=EXAMPLES)
    with pytest.raises(ArgumentError, match=r"part dropout was exported in training mode, and eval\(\) would set it"):
        tr.at_owner(stub).eval()
    assert not torch.equal(stub(X[0]), stub(X[0]))


@pytest.mark.parametrize("sent", [lambda module: module, copy.deepcopy, saved_and_loaded])
def test_a_part_that_is_in_another_mode_than_it_was_exported_in_is_refused(owner, sent):
    module = sent(tr.exported(with_a_frozen_norm(), OnTensor, EXAMPLES))
    stub = tr.create(owner, OnTensor, module)
    with pytest.raises(ArgumentError, match="part norm was exported in evaluation mode, and train"):
        tr.at_owner(stub).train()
    module.norm.train()
    with pytest.raises(ArgumentError, match="part norm was exported in evaluation mode, and is now in training mode"):
        tr.create(owner, OnTensor, module)
    both = sent(tr.exported(Trained(), OnTensor, EXAMPLES, both_modes=True))
    both.norm.eval()
    with pytest.raises(ArgumentError, match="part norm was exported in training mode, and is now in evaluation mode"):
        tr.create(owner, OnTensor, both)


def test_both_modes_of_a_module_whose_train_would_change_a_part_are_refused():
    with pytest.raises(ArgumentError, match=r"both_modes=True: part norm was .* call .train\(\) before the module is"):
        tr.exported(with_a_frozen_norm(), OnTensor, EXAMPLES, both_modes=True)
    with pytest.raises(ArgumentError, match="both_modes=True: part norm was exported in training mode, and train"):
        tr.exported(Keeping(), OnTensor, EXAMPLES, both_modes=True)  # nobody has called its own train yet


def test_a_train_of_its_own_may_leave_a_part_as_it_is(owner):
    for stub in (
        tr.create(owner, OnTensor, with_a_frozen_norm, args=(Keeping,), examples=EXAMPLES),
        tr.create(owner, OnTensor, in_both_modes),
    ):
        tr.at_owner(stub).train()
        stub(X[0])
        assert tracked(stub) == 0
    tr.at_owner(stub).eval()
    assert torch.equal(stub(X[0]), stub(X[0]))
    tr.at_owner(stub).train()
    assert not torch.equal(stub(X[0]), stub(X[0]))


def test_the_parts_of_a_hosted_module_show_the_modes_that_were_captured(owner):
    module = in_both_modes()
    tr.serve(module, OnTensor, "keeping")
    stub = tr.connect(rpc.get_worker_info().name, OnTensor, "keeping")
    for mode in (False, True):
        tr.at_owner(stub).train(mode)
        assert (module.training, module.norm.training, module.dropout.training) == (mode, False, mode)
    tr.withdraw("keeping")
    tr.create(owner, OnTensor, module)


@pytest.mark.parametrize("both_modes", [False, True])
def test_what_train_does_beside_modes_is_undone(both_modes):
    module = Freezing()
    exported = tr.exported(module, OnTensor, EXAMPLES, both_modes=both_modes)
    assert all(part.training for part in module.modules())
    for given in (module, exported):
        assert all(parameter.requires_grad for parameter in given.parameters())


class Freezing(Trained):
    def train(self, mode=True):
        super().train(mode)
        self.norm.requires_grad_(False)
        return self


def test_an_exported_part_of_a_scripted_module(owner):
    holding = torch.jit.script(Holding(tr.exported(with_a_frozen_norm(), OnTensor, EXAMPLES)))
    stub = tr.create(owner, OnTensor, holding)
    with pytest.raises(ArgumentError, match=r"part norm was exported in evaluation mode, and train\(\) would set it"):
        tr.at_owner(stub).train()
    stub(X[0])


def test_programs(owner):
    def hosted(module):
        program = torch.export.export(module, X)
        return tr.create(owner, OnTensor, tr.exported({"forward": program}, OnTensor))

    mixed = hosted(with_a_frozen_norm())
    mixed(X[0])
    with pytest.raises(ArgumentError, match=r"part norm was exported in evaluation mode, and train\(\) would set it"):
        tr.at_owner(mixed).train()
    tr.at_owner(hosted(Trained())).train()
    tr.at_owner(hosted(Trained().eval())).eval()
    tr.at_owner(hosted(nn.BatchNorm1d(4, track_running_stats=False).eval())).eval()
