"""Enums of every size and kind of value cross as positions, and come back as the same members."""

import enum
import io
import sys
import time
import types

import pytest
import torch
from torch import nn

import torchremote as tr
from torchremote.jit import compile_interface
from torchremote.jit.lower import SourceNames
from torchremote.jit.read.interface import read_interface

from .. import zoo

MEMBERS = {
    "Numbers": {"ZERO": 0, "NEGATIVE": -1, "LARGE": 2**62, "ONE": 1, "UNIT": 1},  # UNIT is an alias
    "Floats": {"NAN": float("nan"), "ZERO": 0.0, "MINUS": -0.0, "ALL": float("inf"), "HALF": 0.5},
    "Texts": {"A": "", "B": "B", "name": "value", "value": "name", "C": "\n\"'\\"},
    "Odd": {"Ellipsis": 1, "NoneType": 2, "index": 3, "pop": 4, "list": 5, "self": 6, "position": 7, "_": 8},
    "math": {"A": "a", "B": "b"},
    "Alone": {"ONLY": 1},
}


@pytest.fixture
def interface_of(monkeypatch):
    """Makes an interface that takes and returns members of an enum, as a class of the module "numbered"."""

    def make(name, members):
        module = types.ModuleType("numbered")
        monkeypatch.setitem(sys.modules, "numbered", module)
        cls = enum.Enum(name, members, module="numbered")
        setattr(module, name, cls)

        class Takes:
            def forward(self, x: cls) -> cls: ...

        return cls, Takes

    return make


@pytest.mark.parametrize("name", MEMBERS)
def test_each_member_has_its_own_position(interface_of, name):
    cls, takes = interface_of(name, MEMBERS[name])
    interface = read_interface(takes)
    (enum_type,), names = interface.named_types, SourceNames(interface)
    defined = compile_interface(interface).contract.defined
    pack, unpack = defined[names.pack[enum_type]], defined[names.unpack[enum_type]]
    for position, member in enumerate(cls):
        assert pack(member) == position
        assert unpack(position) is member
    for position in (-1, -len(cls), len(cls), 2**40):
        with pytest.raises((RuntimeError, IndexError, torch.jit.Error), match="(no such member|out of range)"):
            unpack(position)


def test_the_time_to_compile_is_linear_in_the_members(interface_of):
    """Twenty times the members took four hundred times as long."""
    seconds = {}
    for count in (100, 2000):
        _, takes = interface_of(f"Of{count}", {f"M{number}": number for number in range(count)})
        start = time.perf_counter()
        compile_interface(takes)
        seconds[count] = time.perf_counter() - start
    assert seconds[2000] < 100 * seconds[100]


class Echo(nn.Module):
    def forward(self, x: zoo.Level) -> zoo.Level:
        return x


class Echoes:
    def forward(self, x: zoo.Level) -> zoo.Level: ...


class Calling(nn.Module):
    echo: tr.remote_interface(Echoes)

    def __init__(self, echo):
        super().__init__()
        self.echo = echo

    def forward(self, x: zoo.Level) -> zoo.Level:
        return self.echo.forward(x)


def test_members_come_back_as_themselves(owner):
    stub = tr.create(owner, Echoes, Echo, name="echo of members")
    calling = torch.jit.script(Calling(stub))
    file = io.BytesIO()
    torch.jit.save(stub, file)
    file.seek(0)
    loaded = torch.jit.load(file)
    tr.reconnect(loaded)
    for member in zoo.Level:
        assert stub(member) is calling(member) is member
        assert stub.forward_many([(member,)] * 2) == [member] * 2
