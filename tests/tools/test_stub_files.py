"""The .pyi files for type checkers: their text, and the command that writes them. test_typing.py runs the checkers."""

import importlib
import os
import pathlib
import re
import subprocess
import sys
import types

import pytest

from torchremote.errors import InterfaceError
from torchremote.tools.cli import main
from torchremote.tools.stub_files import stub_file

from ..docs.blocks import ROOT

SOURCE = '''"""Parts."""
import os, torch
from torch import Tensor

import torchremote as tr


@tr.remote_scriptable
class Scorer:
    # Scores rows.
    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        """Scores."""

    def best(self, x: "Tensor", *, k: int = 5) -> tuple[Tensor, int]: ...


class Plain:
    def go(self) -> None: ...


class Module(torch.nn.Module):
    def forward(self, x: Tensor, scale: float) -> Tensor:
        return x * len("\u00e9") * scale; pass
'''

HEAD = (
    "# Written from {name}.py by `python -m torchremote stubs {name}`. "
    "Do not edit: write it again when {name}.py has changed.\n"
)
WRITTEN = '''# mypy: disable-error-code="override"
# pyright: basic
# ruff: noqa
# fmt: off
"""Parts."""
import abc as _abc
import typing as _typing
import torchremote.caller.typed as _stubs
import os as os, torch as torch
from torch import Tensor as Tensor

import torchremote as tr


@tr.remote_scriptable
class Scorer:
    # Scores rows.
    @classmethod
    def __torchremote_stub__(cls) -> ScorerStub: ...
    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        """Scores."""

    def best(self, x: "Tensor", *, k: int = 5) -> tuple[Tensor, int]: ...

@_typing.type_check_only
class ScorerStub(Scorer, _stubs.TypedStub):
    def best(self, x: 'Tensor', *, k: int=5) -> tuple[Tensor, int]: ...
    def best_async(self, x: 'Tensor', *, k: int=5) -> _stubs.Answer[tuple[Tensor, int]]:
        """Returns a torch.futures.Future of the result, at once."""
    def best_remote(self, x: 'Tensor', *, k: int=5) -> _stubs.RRef[tuple[Tensor, int]]:
        """Returns an RRef of the result, at once. The result stays where the module is."""
    best_many: _stubs.Many[tuple['Tensor'] | tuple['Tensor', int], tuple[Tensor, int]]
    best_many_async: _stubs.ManyAsync[tuple['Tensor'] | tuple['Tensor', int], tuple[Tensor, int]]
    def forward(self, x: Tensor, scale: float=1.0) -> Tensor:
        """Scores."""
    def __call__(self, x: Tensor, scale: float=1.0) -> Tensor:
        """Scores."""
    def forward_async(self, x: Tensor, scale: float=1.0) -> _stubs.Answer[Tensor]:
        """Scores.

        Returns a torch.futures.Future of the result, at once."""
    def forward_remote(self, x: Tensor, scale: float=1.0) -> _stubs.RRef[Tensor]:
        """Scores.

        Returns an RRef of the result, at once. The result stays where the module is."""
    forward_many: _stubs.Many[tuple[Tensor] | tuple[Tensor, float], Tensor]
    forward_many_async: _stubs.ManyAsync[tuple[Tensor] | tuple[Tensor, float], Tensor]
'''


PLAIN = """
class Plain:
    def go(self) -> None: ...
"""
INNER = """
def f():
    class Inner:
        def go(self) -> None: ...
    return Inner
Inner = f()
"""


@pytest.fixture
def module(tmp_path, monkeypatch, request):
    """A module with interfaces, of a name that no other test has."""
    name = f"parts_{request.node.name.partition('[')[0][-30:]}"
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{name}.py").write_text(SOURCE)
    yield importlib.import_module(name)
    del sys.modules[name]


def test_what_is_written(module):
    text = re.sub(r"(# pyright: .*\n)+", "# pyright: basic\n", stub_file(module))
    before = HEAD.format(name=module.__name__) + WRITTEN
    assert text[: len(before)] == before
    assert text[len(before) :] == SOURCE[SOURCE.index("\n\nclass Plain") :]
    compile(text, "parts.pyi", "exec")


@pytest.mark.parametrize(
    "encoded",
    [
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.encode("utf-8-sig"),
        lambda text: f"# coding: latin-1\n{text}".encode("latin-1"),
    ],
)
def test_a_source_may_have_any_encoding_and_ends_of_lines(module, encoded, capsys, tmp_path):
    expected = stub_file(module)
    source = pathlib.Path(module.__file__)
    source.write_bytes(encoded(SOURCE))
    importlib.reload(module)
    assert stub_file(module).replace("# coding: latin-1\n", "") == expected
    assert main(["stubs", module.__name__]) == 0
    written = source.with_suffix(".pyi").read_bytes().decode("utf-8")
    assert "\r" not in written
    assert 'len("\u00e9")' in written
    assert main(["stubs", "--check", module.__name__]) == 0, capsys.readouterr().err


def test_texts_are_written_in_utf_8_wherever(module):
    code = f"import sys; from torchremote.tools.cli import main; sys.exit(main(sys.argv[1:] + [{module.__name__!r}]))"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    folder = pathlib.Path(module.__file__).parent
    for command in (["stubs"], ["stubs", "--check"]):
        done = subprocess.run(
            *([sys.executable, "-W", "ignore", "-c", code, *command],),
            **{"cwd": folder, "env": environment, "capture_output": True, "text": True, "timeout": 100},
        )
        assert done.returncode == 0, done.stderr


def test_an_interface_with_two_names_is_written_once(module):
    expected = stub_file(module)
    module.Old = module.Scorer
    assert stub_file(module) == expected


def test_an_interface_that_is_not_decorated_is_named(module):
    assert "class PlainStub" not in stub_file(module)
    text = stub_file(module, ["Plain"])
    assert "class PlainStub(Plain, _stubs.TypedStub):\n    def go(self) -> None: ...\n" in text
    assert "class ScorerStub" in text
    assert f"`python -m torchremote stubs {module.__name__}:Plain`" in text
    assert "    def __call__(self, the_interface_has_no_forward: _typing.Never) -> None: ...\n" in text


@pytest.mark.parametrize(
    ("source", "names", "message"),
    [
        (PLAIN, (), "made: no class in it is decorated with @remote_scriptable; name those .*, as in made:Encoder"),
        (PLAIN, ("Other",), "made:Other: no class of this module; it has Plain"),
        (INNER, ("Inner",), "made:f.<locals>.Inner: is not at the top level of its module"),
    ],
)
def test_what_is_refused(tmp_path, source, names, message):
    made = types.ModuleType("made")
    made.__file__ = str(tmp_path / "made.py")
    (tmp_path / "made.py").write_text(source)
    exec(source, made.__dict__)
    with pytest.raises(InterfaceError, match=message):
        stub_file(made, names)


BASE = """
from __future__ import annotations
import enum, torchremote
from torch import Tensor
@torchremote.remote_scriptable
class Base:
    class Mode(enum.Enum):
        FAST = 1
    def forward(self, x: Tensor, /, mode: "Mode" = Mode.FAST, *, by: "dict[str, Mode] | None" = None) -> "Tensor": ...
"""
DERIVED = """
import torchremote
from bodies_base import Base
@torchremote.remote_scriptable
class Derived(Base): ...
"""


def test_names_of_a_class_body_are_written_with_the_class(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    texts = []
    for name, source in (("bodies_base", BASE), ("bodies_derived", DERIVED)):
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)
        texts.append(stub_file(importlib.import_module(name)))
    modes = "mode: Base.Mode=Base.Mode.FAST, *, by: dict[str, Base.Mode] | None=None"
    assert f"    def forward(self, x: Tensor, /, {modes}) -> 'Tensor': ...\n" in texts[0]
    by = "_builtins.dict[_builtins.str, _bodies_base.Base.Mode] | None"
    modes = f"mode: _bodies_base.Base.Mode = ..., *, by: {by} = ..."
    assert f"    def forward(self, x: _torch.Tensor, /, {modes}) -> _torch.Tensor: ...\n" in texts[1]


ALIASES = """
from typing import Final, Literal, NewType, Optional, TypeVar
from typing_extensions import TypeAliasType
from torch import Tensor
T = TypeVar("T")
UserId = NewType("UserId", int)
Batch = TypeAliasType("Batch", "list[Tensor]")
Maybe = TypeAliasType("Maybe", Optional[T], type_params=(T,))
def made():
    return TypeAliasType("Local", dict[str, Maybe[T]], type_params=(T,))
Made = made()
class Base:
    Own = TypeAliasType("Own", tuple[Maybe[T], Made[T], Literal["a", None]], type_params=(T,))
"""
STATEMENTS = """
from typing import Final, Literal, NewType
from torch import Tensor
UserId = NewType("UserId", int)
type Batch = list["Tensor"]
type Maybe[T] = T | None
def made():
    type Local[T] = dict[str, Maybe[T]]
    return Local
Made = made()
class Base:
    type Own[T] = tuple[Maybe[T], Made[T], Literal["a", None]]
"""
INHERITED = """
    def forward(
        self, x: Batch, y: "Maybe[list[UserId]]", z: Own[int], *, k: Final[Literal["b"]] = "b"
    ) -> Made[Tensor]: ...
"""
SPELLED = (
    "x: _{0}.Batch, y: _{0}.Maybe[_builtins.list[_{0}.UserId]], z: _builtins.tuple[_{0}.Maybe[_builtins.int], "
    "_builtins.dict[_builtins.str, _{0}.Maybe[_builtins.int]], _typing.Literal['a', None]], *, "
    "k: _typing.Literal['b'] = ...) -> _builtins.dict[_builtins.str, _{0}.Maybe[_torch.Tensor]]"
)


@pytest.mark.parametrize("aliases", [ALIASES, STATEMENTS] if sys.version_info >= (3, 12) else [ALIASES])
def test_aliases_in_inherited_methods_are_written_by_name_or_spelled_out(tmp_path, monkeypatch, aliases):
    monkeypatch.syspath_prepend(tmp_path)
    base, derived = f"aliases_{len(aliases)}", f"of_aliases_{len(aliases)}"
    (tmp_path / f"{base}.py").write_text(aliases + INHERITED)
    (tmp_path / f"{derived}.py").write_text(DERIVED.replace("bodies_base", base))
    for name in (base, derived):
        monkeypatch.delitem(sys.modules, name, raising=False)
    text = stub_file(importlib.import_module(derived))
    assert f"    def forward(self, {SPELLED.format(base)}: ...\n" in text
    assert f"import {base} as _{base}\n" in text


def test_a_module_without_a_file_is_refused():
    with pytest.raises(InterfaceError, match=r"made: is in no \.py file"):
        stub_file(types.ModuleType("made"))


# -- the command


def test_the_command_writes_and_checks(module, capsys, tmp_path):
    path = tmp_path / f"{module.__name__}.pyi"
    assert main(["stubs", "--check", module.__name__]) == 1
    assert not path.exists()
    assert main(["stubs", module.__name__]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    assert path.read_text() == stub_file(module)
    assert main(["stubs", "--check", module.__name__]) == 0
    assert main(["stubs", "--check", f"{module.__name__}:Plain"]) == 1
    told = capsys.readouterr().err
    assert f"{path}: is not up to date; run `python -m torchremote stubs {module.__name__}:Plain`" in told
    assert main(["stubs", module.__name__, f"{module.__name__}:Plain"]) == 0
    assert path.read_text() == stub_file(module, ["Plain"])


@pytest.mark.parametrize("check", [[], ["--check"]])
def test_a_file_that_is_none_is_named(module, check, capsys, tmp_path):
    (tmp_path / f"{module.__name__}.pyi").mkdir()
    assert main(["stubs", *check, module.__name__]) == 1
    assert capsys.readouterr().err == f"torchremote: {tmp_path / module.__name__}.pyi: Is a directory\n"


def test_a_file_in_another_encoding_is_not_up_to_date(module, capsys, tmp_path):
    (tmp_path / f"{module.__name__}.pyi").write_bytes("\u00e9".encode("latin-1"))
    assert main(["stubs", "--check", module.__name__]) == 1
    assert "is not up to date" in capsys.readouterr().err


def test_what_the_command_refuses(capsys):
    assert main(["stubs", "no.such.module"]) == 1
    assert "No module named" in capsys.readouterr().err


@pytest.mark.parametrize("example", sorted(it.parent.name for it in (ROOT / "examples").glob("*/parts.py")))
def test_the_files_of_the_examples_are_up_to_date(example):
    command = [sys.executable, "-W", "ignore", "-m", "torchremote", "stubs", "--check", "parts"]
    folder = ROOT / "examples" / example
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
