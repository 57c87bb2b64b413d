"""What TorchScript writes in a form that it cannot read, or reads as another value: refused when it is saved."""

import enum
import importlib
import sys
from typing import NamedTuple, Optional

import pytest
import torch
from torch import nn

from torchremote import _torch
from torchremote.archive.inspect import stubs_in_archive
from torchremote.errors import InterfaceError
from torchremote.jit import compile_interface
from torchremote.jit.read.interface import read_interface
from torchremote.link.route import Route, clear_route

from .archiving import saved

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
Odd = enum.Enum("Odd", ["Ellipsis", "NoneType", "Other"], module=__name__)
Free = enum.Enum("Free", ["NotImplemented", "inf", "nan", "cast", "value"], module=__name__)
Big = enum.Enum("Big", {"A": 1e12, "B": 0.5}, module=__name__)


class Words(NamedTuple):
    text: str
    number: float


class Fields(NamedTuple):
    Ellipsis: int


class Ellipsis(NamedTuple):
    number: int


def interface_with(kind, default):
    class Defaulted:
        def forward(self, x: kind = default) -> kind: ...

    return Defaulted


def stub_of(interface):
    """A disconnected stub, as if it had been loaded."""
    compiled = compile_interface(interface)
    stub = _torch.copy_module(compiled.stub)
    clear_route(stub, compiled, Route("somewhere", "name", "cpu", 0, (), None, None))
    return stub


@pytest.mark.parametrize(
    ("kind", "default", "message"),
    [
        (str, "a\r\nb\r", "with a carriage return as its default"),
        (tuple[str, int], ("\r", 1), "with a carriage return as its default"),
        (Words, Words("\r", 0.5), "with a carriage return as its default"),
        (Optional[str], "\r", "with a carriage return as its default"),
        (Words, Words("\x85", 0.5), "with characters beyond ASCII beside a NamedTuple as its default"),
        (tuple[str, Words], ("\u2028", Words("", 0.5)), "with characters beyond ASCII beside a NamedTuple"),
        (float, 1e10, "10000000000.0, which torch writes as an int,"),
        (float, -25e15, "which torch writes as an int,"),
        (Words, Words("", 1e16), "which torch writes as an int,"),
        (complex, complex(-0.0, -0.0), "a negative zero in a complex number"),
        (complex, complex(1, -0.0), "a negative zero in a complex number"),
        (tuple[complex, int], (complex(-0.0, 1), 1), "a negative zero in a complex number"),
    ],
    ids=ascii,
)
def test_defaults_that_would_not_come_back(kind, default, message):
    with pytest.raises(torch.jit.Error) as caught:
        saved(stub_of(interface_with(kind, default)))
    told = str(caught.value)
    assert message in told
    assert "Defaulted: this stub cannot be saved: torch cannot load forward's argument 'x' with" in told
    assert "declare it Optional with the default None" in told


TEXTS = ["\x0b", "\x0c", "\x85", "\u2028", "\x001", "\x1b[2J", "\n", "\\r", "\U0001f600", "\x7f", "'\""]
FLOATS = [1e9, 1e10 + 0.5, 1e17, 1e300, -0.0, float("inf"), 5e-324, 1 / 3]
COMPLEX = [complex(float("nan"), 1), complex(float("inf"), 0), complex(1e16, -1), complex(0, float("-inf"))]


@pytest.mark.parametrize(
    ("kind", "default"),
    [
        *((type(value), value) for value in (*TEXTS, *FLOATS, *COMPLEX, *Free)),
        (tuple[str, Words], ("\x0b\n", Words("\x7f", -0.0))),
        (tuple[str, Optional[int]], ("\u2028\x85", None)),
        (tuple[str, Free], ("\x85", Free.inf)),
        (Words, Words("\x0c", 1e300)),
    ],
    ids=ascii,
)
def test_defaults_that_are_the_same_in_an_archive(kind, default):
    loaded = torch.jit.load(saved(stub_of(interface_with(kind, default))))
    assert ascii(_torch.schema_of(loaded, "forward").arguments[1].default_value) == ascii(default)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Odd, "Odd.(Ellipsis|NoneType); rename it"),
        (list[Odd], "Odd.(Ellipsis|NoneType); rename it"),
        (Fields, "Fields.Ellipsis; rename it"),
        (Big, "Big.A's; use another, or ints"),
    ],
    ids=str,
)
def test_names_and_values_that_torch_cannot_load(kind, message):
    class Named:
        def forward(self, x: kind) -> kind: ...

    with pytest.raises(torch.jit.Error, match=message):
        saved(stub_of(Named))


# -- names for which TorchScript has another use: an error of the interface, and not of its generated code


@pytest.mark.parametrize("name", ["Ellipsis", "NoneType", "_"])
def test_methods_that_torchscript_cannot_have(name):
    def method(self, x: int) -> int: ...

    with pytest.raises(
        InterfaceError, match=rf"Named\.{name}: TorchScript cannot have a method of this name; rename it"
    ):
        read_interface(type("Named", (), {name: method}))


def test_arguments_defaults_and_classes_that_torchscript_takes_for_constants():
    class Arguments:
        def forward(self, NoneType: int) -> int: ...

    class Defaults:
        def forward(self, x: Odd = Odd.Ellipsis) -> Odd: ...

    class Classes:
        def forward(self, x: list[Ellipsis]) -> int: ...

    for interface, message in (
        (Arguments, r"Arguments\.forward\.NoneType: TorchScript takes this name for a constant; rename the argument"),
        (Defaults, r"Defaults\.forward\.x: TorchScript cannot write Odd\.Ellipsis as a default; rename the member, or"),
        (Classes, r"Classes\.forward\.x: TorchScript takes a part of .*\.Ellipsis for a constant; rename it"),
    ):
        with pytest.raises(InterfaceError, match=message):
            read_interface(interface)


def test_an_interface_that_torchscript_takes_for_a_constant():
    interface = type("NoneType", (), {"forward": interface_with(int, 3).forward})
    with pytest.raises(torch.jit.Error, match="torch cannot load an interface called NoneType; rename it"):
        saved(stub_of(interface))


def holding(interface):
    """A module that holds a stub, and whose archive names the interface."""

    class Holder(nn.Module):
        stub: interface

        def __init__(self):
            super().__init__()
            self.stub = stub_of(interface)

        def forward(self) -> int:
            return self.stub.forward()

    return Holder()


@pytest.mark.parametrize("name", ["my-module", "1st", "m\xf6dul", "lambda", "Ellipsis", "a b", "NoneType"])
def test_modules_whose_names_are_no_identifiers(tmp_path, monkeypatch, name):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{name}.py").write_text(MODULE)
    module = importlib.import_module(name)
    try:
        model = torch.jit.script(holding(module.Interface))
        file = saved(model)
        assert [key for key, _ in torch.jit.load(file).named_children()] == ["stub"]
        (found,) = stubs_in_archive(file.seek(0) or file)
        assert found.interface.name == "Interface"
    finally:
        del sys.modules[name]


MODULE = """
import torchremote

@torchremote.remote_scriptable
class Interface:
    def forward(self, x: int = 3) -> int: ...
"""
