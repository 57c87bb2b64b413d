"""Modules that are imported because an archive or a caller names a class of theirs."""

import importlib
import sys

import pytest
import torch
import torch.distributed.rpc as rpc

import torchremote as tr
from torchremote.errors import InterfaceError
from torchremote.jit import compile_interface
from torchremote.jit.read.parse import parse_interface

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
MODULES = {
    "raising": ("raise RuntimeError('not on this machine')", "RuntimeError: not on this machine"),
    "leaving": ("import sys; sys.exit('bye')", "SystemExit: bye"),
    "misspelt": ("class Color(:", "SyntaxError"),
    "asked": ("def __getattr__(name): raise ValueError('no ' + name)", "ValueError: no Color"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def interface_of(module):
    text = f"enum {module}.Color: RED = 1\nforward(x: {module}.Color) -> int"
    return parse_interface("__torch__.elsewhere.Paints", text)


@pytest.mark.parametrize("name", MODULES)
def test_what_an_import_raises_is_an_error_of_the_interface(folder, name):
    source, raised = MODULES[name]
    (folder / f"naming_{name}.py").write_text(source)
    with pytest.raises(InterfaceError) as caught:
        compile_interface(interface_of(f"naming_{name}"))
    assert f"Paints: naming_{name}.Color is not imported yet, and importing its module raised {raised}" in str(
        caught.value
    )
    assert f"see to it that `import naming_{name}` works" in str(caught.value)


@pytest.mark.parametrize("source", [None, "import a_module_that_is_not_installed", "Other = 1"])
def test_a_twin_stands_for_a_class_that_cannot_be_imported(folder, source):
    module = f"without_{len(source or '')}"
    if source is not None:
        (folder / f"{module}.py").write_text(source)
    (twin,) = compile_interface(interface_of(module)).contract.classes.values()
    assert [member.name for member in twin] == ["RED"]


def test_a_class_that_is_there_imports_nothing(folder, monkeypatch):
    (folder / "naming_there.py").write_text("import enum\nclass Outer:\n  class Color(enum.Enum):\n    RED = 1")
    found = importlib.import_module("naming_there").Outer.Color
    monkeypatch.setattr(importlib, "import_module", None)
    assert list(compile_interface(interface_of("naming_there.Outer")).contract.classes.values()) == [found]


def import_failing(path):
    sys.path.insert(0, path)


class PaintsModule(torch.nn.Module):
    def forward(self, x: int) -> int:
        return x


def test_what_an_import_raises_on_the_owner_reaches_the_caller(owner, folder):
    (folder / "naming_owner.py").write_text(
        "import enum, torch.distributed.rpc as rpc\n"
        "if rpc.get_worker_info().name != 'caller': raise RuntimeError('only callers have this')\n"
        "class Color(enum.Enum):\n  RED = 1\n"
    )
    color = importlib.import_module("naming_owner").Color

    class Paints:
        def forward(self, x: color) -> int: ...

    rpc.rpc_sync(owner, import_failing, (str(folder),))
    with pytest.raises(InterfaceError, match=r"Paints on owner: .*naming_owner\.Color .*only callers have this"):
        tr.create(owner, Paints, PaintsModule)
