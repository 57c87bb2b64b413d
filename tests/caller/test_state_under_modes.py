"""A state does not depend on the modes of the thread that asks for it, and neither does what is compiled then."""

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import torchremote as tr
from torchremote.errors import ArgumentError
from torchremote.testing import same

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Input:
    def forward(self, input: Tensor) -> Tensor: ...


def linear():
    torch.manual_seed(1)
    return nn.Linear(2, 2)


MODES = {"meta": lambda: torch.device("meta"), "inference": torch.inference_mode, "no_grad": torch.no_grad}


@pytest.mark.parametrize("mode", MODES)
def test_a_state_is_plain_tensors_on_the_cpu(owner, mode):
    stub = tr.create(owner, Input, linear)
    with MODES[mode]():
        state = stub.state_dict()
        stub.load_state_dict(state)
    assert same(dict(state), dict(linear().state_dict()))
    assert not any(value.is_inference() for value in state.values())
    assert same(dict(stub.state_dict()), dict(linear().state_dict()))


def test_tensors_without_values_are_refused(owner):
    stub = tr.create(owner, Input, linear)
    state = stub.state_dict()
    with FakeTensorMode():
        for ask in (stub.state_dict, lambda: stub.load_state_dict(state)):
            with pytest.raises(ArgumentError, match=r"Input on owner: (load_)?state_dict under .* call it outside"):
                ask()


@pytest.mark.parametrize("mode", MODES)
def test_an_interface_may_be_compiled_under_a_mode(owner, mode):
    class Compiled:
        def forward(self, input: Tensor) -> Tensor: ...

    x = torch.ones(3, 2)
    with MODES[mode]():
        stub = tr.create(owner, Compiled, linear)
        results = [stub(x), *stub.forward_many([(x,), (x,)])]
        sparse = torch.eye(2, device="cpu").to_sparse()
        results.append(stub(sparse))
    results.append(stub(x))
    expected = linear()(x).detach()
    assert all(same(result.detach(), expected) for result in (*results[:3], results[4]))
