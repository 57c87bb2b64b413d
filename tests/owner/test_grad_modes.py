"""What sets the grad mode of a thread is refused: the next call that the thread runs would get it."""

from typing import Any

import pytest
import torch
import torch.distributed.rpc as rpc
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import CreationError

from .places import names_its_line


class OnTensor:
    def forward(self, x: Tensor) -> Tensor: ...


class Off(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        torch.set_grad_enabled(False)
        return x * 2


class Both(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        torch.set_grad_enabled(self.training)
        y = x * 2
        torch.set_grad_enabled(True)
        return y


def doubled(x: Tensor) -> Tensor:
    if x.dim() > 1:
        torch.autograd.set_grad_enabled(False)
    return x * 2


class InAFunction(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return doubled(x)


class Switch:
    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> None:
        torch.set_grad_enabled(False)

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        torch.set_grad_enabled(True)


class InAWith(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        with Switch():
            y = x * 2
        return y


@pytest.mark.parametrize("make", [Off, Both, InAFunction, InAWith])
def test_what_sets_the_mode_is_refused_with_its_place(make):
    for given in (make(), torch.jit.script(make())):
        with pytest.raises(CreationError, match=r"write `with torch.no_grad\(\):` around") as found:
            tr.serve(given, OnTensor, "never")
        assert names_its_line(str(found.value), __file__)


def test_with_examples_it_is_right_and_stays_in_the_call(owner):
    x = torch.ones(2, requires_grad=True)
    for make in (Off, Both):
        stub = tr.create(owner, OnTensor, make, examples={"forward": (x,)})
        assert torch.equal(stub(x), torch.full((2,), 2.0))
        assert all(rpc.rpc_sync(owner, torch.is_grad_enabled) for _ in range(60))
