"""The library of the native part: where it is, how it is built, and what is said if it is not used."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from torch.utils import cpp_extension

import torchremote
from torchremote import native
from torchremote.errors import NativeError
from torchremote.tools import cli


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(native.SWITCH, raising=False)
    monkeypatch.setenv("PATH", os.environ["PATH"])  # what a build changes is put back
    return tmp_path


def test_there_is_one_library_for_each_torch_python_and_source(cache, tmp_path, monkeypatch):
    first = native.library()
    assert first.is_relative_to(cache)
    monkeypatch.setattr(torch, "__version__", "9.0.0")
    assert native.library() != first
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    assert native.library() == first
    changed = tmp_path / "native.cpp"
    for number, source in enumerate(native.SOURCES):
        changed.write_text(source.read_text() + "\n")
        sources = (*native.SOURCES[:number], changed, *native.SOURCES[number + 1 :])
        with monkeypatch.context() as patched:
            patched.setattr(native, "SOURCES", sources)
            assert native.library() != first


def test_what_is_said_where_it_is_not_built(cache, monkeypatch):
    assert native._load() == (None, "not used: it is not built; `python -m torchremote build-native` does that")
    monkeypatch.setenv(native.SWITCH, "1")
    with pytest.raises(ImportError, match="=1: the native part .* it is not built; `TORCHREMOTE_NATIVE= python -m"):
        native._load()
    monkeypatch.setenv(native.SWITCH, "0")
    assert native._load() == (None, "not used: TORCHREMOTE_NATIVE=0")


def test_a_library_that_does_not_load_is_left_and_named(cache):
    native.library().parent.mkdir(parents=True)
    native.library().write_text("no library")
    library, why = native._load()
    assert library is None
    assert f"{native.library()} cannot be loaded" in why
    assert "delete it" in why


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("compiler", "no absent-c++ here; install a C++ compiler"),
        ("ninja", "no ninja here, which torch builds with; pip install ninja"),
    ],
)
def test_a_build_says_what_is_missing(cache, monkeypatch, capsys, missing, said):
    if missing == "compiler":
        monkeypatch.setenv("CXX", "absent-c++")
    else:
        monkeypatch.setattr(shutil, "which", lambda name: name)
        monkeypatch.setattr(cpp_extension, "is_ninja_available", lambda: False)
    assert cli.main(["build-native"]) == 1
    assert said in capsys.readouterr().err
    assert not native.library().exists()


def test_importing_torchremote_does_not_import_what_builds():
    looks = "import sys, torchremote; print('torch.utils.cpp_extension' in sys.modules)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", looks], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr


def test_a_source_that_does_not_compile_leaves_nothing(cache, tmp_path, monkeypatch):
    def load(name, sources, build_directory, **options):
        raise RuntimeError("Error building extension: fatal error: ATen/core/ivalue.h")

    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(cpp_extension, "is_ninja_available", lambda: True)
    monkeypatch.setattr(cpp_extension, "load", load)
    with pytest.raises(NativeError, match=r"does not compile here: Error building extension: fatal error: ATen"):
        native.build()
    assert list(native.library().parent.iterdir()) == []


def test_a_compiler_that_fails_is_named(cache, monkeypatch, capsys):
    monkeypatch.setenv("CXX", "false")
    assert cli.main(["build-native"]) == 1
    assert "does not compile here: Command '['false'" in capsys.readouterr().err


def test_without_a_home_it_is_not_used(cache, monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(native.Path, "home", home)
    said = "there is no folder for it: Could not determine home directory; name one in XDG_CACHE_HOME"
    assert native._load() == (None, f"not used: {said}")
    with pytest.raises(NativeError, match=said):
        native.build()
    monkeypatch.setenv(native.SWITCH, "1")
    with pytest.raises(ImportError, match="Could not determine home directory"):
        native._load()


def test_a_cache_that_may_not_be_read_is_not_used(cache, monkeypatch):
    def exists(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(native.Path, "exists", exists)
    library, why = native._load()
    assert library is None
    assert why.startswith("not used: [Errno 13] Permission denied: ")
    with pytest.raises(NativeError, match="Permission denied.*; name another folder in XDG_CACHE_HOME"):
        native.build()


def test_a_cache_that_may_not_be_written_is_named(cache, monkeypatch, capsys):
    def make_folder(**_):
        raise PermissionError(13, "Permission denied", str(cache))

    monkeypatch.setattr(native, "_tools", lambda: cpp_extension)
    monkeypatch.setattr(native.tempfile, "TemporaryDirectory", make_folder)
    assert cli.main(["build-native"]) == 1
    assert "Permission denied" in (said := capsys.readouterr().err)
    assert "name another folder in XDG_CACHE_HOME" in said


def test_what_is_built_is_not_built_again(cache, capsys):
    native.library().parent.mkdir(parents=True)
    native.library().write_text("")
    assert cli.main(["build-native"]) == 0
    assert capsys.readouterr().out.strip() == str(native.library())


def test_without_it_nobody_reaches_its_operators(monkeypatch):
    monkeypatch.setattr(native, "_library", None)
    with pytest.raises(NativeError, match="the native part is"):
        native._operator("wait_for")(None, 1.0)


def test_without_it_nothing_is_compiled(monkeypatch):
    monkeypatch.setattr(native, "_library", None)
    monkeypatch.setattr(native, "_why", "not used: it is not built; `python -m torchremote build-native` does that")
    with pytest.raises(NativeError, match="compiled: it needs the native part, which is not used: .*build-native"):
        torchremote.compiled("model.pt2")
    with pytest.raises(NativeError, match="a compiled module needs the native part, which is not used: .*build-native"):
        native.package(torch.empty(0, dtype=torch.uint8), "cpu")
