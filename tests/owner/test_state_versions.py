"""The versions in a state, and modules that convert states of other versions when they load them."""

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import MismatchError
from torchremote.testing import same

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Input:
    def forward(self, input: Tensor) -> Tensor: ...


class Versioned(nn.Module):
    """Version 1 kept a half of the weight."""

    _version = 2

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.norm = nn.BatchNorm1d(4)

    def forward(self, input: Tensor) -> Tensor:
        return self.norm(input * self.weight)

    def _load_from_state_dict(self, state, prefix, versions, *args):
        if (versions.get("version") or 1) < 2 and f"{prefix}weight" in state:
            state[f"{prefix}weight"] = state[f"{prefix}weight"] * 2
        super()._load_from_state_dict(state, prefix, versions, *args)


def inside():
    return nn.Sequential(Versioned())


class Hooked(nn.Module):
    """Renames nothing, and scales what it loads without a version."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.register_load_state_dict_pre_hook(scale)

    def forward(self, input: Tensor) -> Tensor:
        return input * self.weight


def scale(module, state, prefix, versions, *args):
    if not versions:
        state[f"{prefix}weight"] = state[f"{prefix}weight"] * 2


class Loading(nn.Linear):
    """Loads in a way of its own."""

    def load_state_dict(self, state_dict, strict=True, assign=False):
        return super().load_state_dict({name: value * 2 for name, value in state_dict.items()}, strict, assign)


def loading():
    return Loading(2, 2)


@pytest.mark.parametrize("make", [Versioned, inside])
def test_a_state_has_the_versions_of_the_python_module(owner, tmp_path, make):
    stub, here, path = tr.create(owner, Input, make), make(), tmp_path / "state.pt"
    tr.at_owner(stub).checkpoint(path)
    for state in (tr.at_owner(stub).state_dict(), stub.state_dict(), torch.load(path)):
        assert type(state) is type(here.state_dict())
        assert state._metadata == here.state_dict()._metadata
        here.load_state_dict(state)
        assert same(dict(here.state_dict()), dict(make().state_dict()))
    assert stub.state_dict(prefix="part.")._metadata == here.state_dict(prefix="part.")._metadata
    assert stub.load_state_dict(here.state_dict()) == ([], [])
    assert stub.load_state_dict(stub.state_dict()) == ([], [])


def test_a_module_that_was_built_here_has_its_versions(owner):
    class Local(Versioned):
        _version = 3

    stub = tr.create(owner, Input, Local)
    assert stub.state_dict()._metadata == Local().state_dict()._metadata
    with pytest.raises(MismatchError, match="Local's _load_from_state_dict"):
        stub.load_state_dict(dict(Local().state_dict()))


def old_state(make, version):
    state = make().state_dict()
    for part in state._metadata.values():
        part["version"] = version
    return state


@pytest.mark.parametrize(
    ("make", "by"),
    [
        (Versioned, "version 2 in the module, which would convert it with Versioned's _load_from_state_dict"),
        (inside, "of 0, and version 2 in the module, which would convert it with Versioned's _load_from_state_dict"),
        (Hooked, "Hooked's load_state_dict_pre_hook"),
        (loading, "Loading's load_state_dict"),
    ],
)
def test_a_state_that_would_have_to_be_converted_is_refused(owner, tmp_path, make, by):
    stub, path = tr.create(owner, Input, make), tmp_path / "old.pt"
    before = stub.state_dict()
    for old in (dict(make().state_dict()), old_state(make, 0)):
        with pytest.raises(MismatchError, match=by):
            stub.load_state_dict(old)
        with pytest.raises(MismatchError, match=by):
            stub.load_state_dict(old, strict=False)
        torch.save(old, path)
        with pytest.raises(MismatchError, match=by):
            tr.create(owner, Input, make, checkpoint=path)
        with pytest.raises(MismatchError, match=by):
            tr.serve(make(), Input, "old", checkpoint=path)
    assert same(dict(stub.state_dict()), dict(before))
    assert stub.load_state_dict({}, strict=False).unexpected_keys == []
    tr.at_owner(stub).checkpoint(path)
    assert tr.create(owner, Input, make, checkpoint=path) is not None


def test_parts_of_torchs_own_take_a_plain_dict(owner):
    stub = tr.create(owner, Input, nn.BatchNorm1d, args=(4,))
    changed = {name: value + 1 for name, value in stub.state_dict().items()}
    stub.load_state_dict(changed)
    assert same(dict(stub.state_dict()), changed)
