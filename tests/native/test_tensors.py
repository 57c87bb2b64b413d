"""Tensors about whose place only C++ can tell. TorchScript asks them, and they answer for another one."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import torchremote as tr
from torchremote import testing
from torchremote.errors import RemoteError
from torchremote.link.failures import FAILURES

from ..link.test_tensors import Calling, Carrier, CarrierModule
from ..owner.test_values_elsewhere import Wrapped


class Elsewhere(Wrapped):
    """Gives results of its own kind, as DTensor does."""

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        made = super().__torch_dispatch__(function, types, args, kwargs)
        return cls(made) if isinstance(made, torch.Tensor) else made


def elsewhere():
    return Elsewhere(torch.ones(3))


def functional():
    return torch._to_functional_tensor(torch.ones(3))


def left_behind():
    """A tensor of torch.func.grad, after it has ended."""
    kept = []
    torch.func.grad(lambda x: kept.append(x) or x.sum())(torch.ones(3))
    return kept[0]


@pytest.mark.parametrize("make", [elsewhere, functional, left_behind])
def test_a_tensor_that_keeps_its_values_elsewhere_is_refused_in_a_scripted_model_and_as_a_result(owner, make):
    carrier = tr.create(owner, Carrier, CarrierModule, args=(make,))
    model = torch.jit.script(Calling(carrier))
    with pytest.raises(FAILURES, match="cannot send Carrier.listed.xs: a tensor without storage of its own"):
        model(make())
    for call in (carrier.give, carrier.give_inside, carrier.give_any):
        with pytest.raises(RemoteError, match="^Carrier.give.*: a tensor without storage of its own"):
            call()
    assert testing.same(model(torch.ones(2)), torch.ones(2))  # both go on


def test_a_scripted_model_sends_the_tensor_itself_under_a_mode(owner):
    model = torch.jit.script(Calling(tr.create(owner, Carrier, CarrierModule, args=(torch.Tensor,))))
    x = torch.ones(3)
    for _ in range(100):  # some answers are there before torch looks for them: then it reads them in this thread
        with FakeTensorMode(allow_non_fake_inputs=True):
            back = model(x)
        assert testing.same(back, x)
