"""Autocast is the caller's own: it is not carried to the owner, and changes nothing that is sent."""

from typing import Any, List

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote.dropin.remote_module import _RemoteModule


@tr.remote_scriptable
class Casting:
    def forward(self, x: Tensor) -> Tensor: ...
    def echo(self, x: Tensor) -> Tensor: ...
    def echo_all(self, xs: List[Tensor]) -> List[Tensor]: ...
    def echo_any(self, x: Any) -> Any: ...
    def is_on(self) -> bool: ...
    def by_itself(self, x: Tensor) -> Tensor: ...


class CastingModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)

    def echo(self, x: Tensor) -> Tensor:
        return x

    def echo_all(self, xs: List[Tensor]) -> List[Tensor]:
        return xs

    def echo_any(self, x: Any) -> Any:
        return x

    def is_on(self) -> bool:
        return torch.is_autocast_cpu_enabled()

    def by_itself(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = self.linear(x)
        return y


X = torch.ones(2, 4)
HALVES = [torch.bfloat16, torch.float16]


@pytest.fixture(scope="module")
def stub(owner):
    return tr.create(owner, Casting, CastingModule)


@pytest.mark.parametrize("dtype", HALVES)
def test_it_is_not_carried(stub, dtype):
    with torch.autocast("cpu", dtype=dtype):
        assert torch.mm(X, X.t()).dtype == dtype  # here it is on
        assert not stub.is_on()
        assert stub(X).dtype == torch.float32
        assert stub.forward_async(X).wait().dtype == torch.float32
        assert stub.forward_many([(X,)])[0].dtype == torch.float32
        assert torch.mm(X, X.t()).dtype == dtype  # and stays on
    assert not torch.is_autocast_enabled("cpu")


def test_a_module_may_turn_it_on(stub):
    assert stub.by_itself(X).dtype == torch.bfloat16
    assert not stub.is_on()
    assert stub(X).dtype == torch.float32


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, torch.float64])
@pytest.mark.parametrize("mode", HALVES)
def test_what_is_sent_keeps_its_dtype(stub, owner, mode, dtype):
    x = X.to(dtype)
    plain, scripted = tr.RemoteModule(owner, nn.Identity), _RemoteModule(owner, CastingModule, (), {}, Casting)
    with torch.autocast("cpu", dtype=mode):
        for echoed in (
            stub.echo(x),
            stub.echo_async(x).wait(),
            stub.echo_many([(x,)])[0],
            stub.echo_many([(x,)], return_exceptions=True)[0],
            stub.echo_all([x])[0],
            stub.echo_any(x),
            plain.forward(x),
            scripted.echo(x),
        ):
            assert echoed.dtype == dtype


def test_an_error_leaves_it_on(stub):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with pytest.raises(tr.TorchRemoteError):
            stub(torch.ones(2, 3))
        with pytest.raises(tr.TorchRemoteError):
            stub(None)
        assert torch.is_autocast_enabled("cpu")


@tr.remote_scriptable
class Echoing:
    def echo(self, x: Tensor) -> Tensor: ...
    def echo_all(self, xs: List[Tensor]) -> List[Tensor]: ...


class Echo(nn.Module):
    def echo(self, x: Tensor) -> Tensor:
        return x

    def echo_all(self, xs: List[Tensor]) -> List[Tensor]:
        return xs


class Holding(nn.Module):
    echoing: Echoing

    def __init__(self, echoing):
        super().__init__()
        self.echoing = echoing

    def forward(self, x: Tensor) -> Tensor:
        return self.echoing.echo(x)

    @torch.jit.export
    def in_a_list(self, x: Tensor) -> Tensor:
        return self.echoing.echo_all([x])[0]


def test_a_scripted_model_is_cast_by_torch(owner):
    """As for any module behind an interface: docs/limits.md says so, and how to pass it on as it is."""
    here = torch.jit.script(Holding(Echo()))
    there = torch.jit.script(Holding(tr.create(owner, Echoing, Echo)))
    x = X.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert there(x).dtype == torch.float32
        assert here.in_a_list(x).dtype == there.in_a_list(x).dtype == torch.bfloat16
