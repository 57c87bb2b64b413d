"""A region of autocast whose arguments are no constants is refused: TorchScript would run it without autocast."""

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import CreationError

from .places import names_its_line

X = torch.ones(2, 4)


class OnTensor:
    def forward(self, x: Tensor) -> Tensor: ...


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.on, self.device, self.dtype = nn.Linear(4, 4), True, "cpu", torch.float16


class ByAttribute(Base):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.on):
            return self.linear(x)


class ByMode(Base):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.training):
            return self.linear(x)


class ByDevice(Base):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(self.device, dtype=torch.bfloat16):
            return self.linear(x)


class ByDeviceOfArgument(Base):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            return self.linear(x)


class ByDtype(Base):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=self.dtype):
            return self.linear(x)


class OfCpu(Base):
    def forward(self, x: Tensor) -> Tensor:
        with torch.cpu.amp.autocast(enabled=self.on):
            return self.linear(x)


class InAPart(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = ByAttribute()

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x)


VARYING = {
    ByAttribute: "enabled",
    ByMode: "enabled",
    ByDevice: "device_type",
    ByDeviceOfArgument: "device_type",
    ByDtype: "dtype",
    InAPart: "enabled",
}
if torch.__version__ < "2.15":  # which takes `torch.autocast` alone
    VARYING[OfCpu] = "enabled"


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("make", VARYING)
def test_it_is_refused_with_its_place(make):
    for given in (make(), torch.jit.script(make())):
        with pytest.raises(
            CreationError, match=f"does not have a constant for {VARYING[make]}, .*__constants__"
        ) as found:
            tr.serve(given, OnTensor, "never")
        assert names_its_line(str(found.value), __file__)


class Constant(ByAttribute):
    __constants__ = ("on", "device")

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.on):
            return self.linear(x)


class Final(Base):
    on: torch.jit.Final[bool]

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.on, cache_enabled=self.training):
            return self.linear(x)


@pytest.mark.parametrize("make", [Constant, Final])
def test_constants_have_autocast(owner, make):
    stub = tr.create(owner, OnTensor, make)
    assert [stub(X).dtype for _ in range(4)] == [torch.bfloat16] * 4
    with torch.no_grad():
        assert [stub(X).dtype for _ in range(2)] == [torch.bfloat16] * 2


@pytest.mark.parametrize("make", [ByAttribute, ByMode, ByDevice, ByDeviceOfArgument])
def test_with_examples_it_is_right(owner, make):
    stub = tr.create(owner, OnTensor, make, examples={"forward": (X,)})
    assert [stub(X).dtype for _ in range(3)] == [torch.bfloat16] * 3
