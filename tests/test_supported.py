"""What is said on a Python or torch that is not supported, and by the doctor."""

import ast
import inspect
import subprocess
import sys
import warnings

import pytest
import torch

from torchremote import _torch, supported
from torchremote.tools import cli, doctor


def test_this_one_is():
    assert list(supported.missing_names()) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        supported.check_import()


def test_every_private_name_that_is_used_is_listed():
    listed = {name for names in supported.PRIVATE.values() for name in names.split()}
    listed |= {part for holder in supported.PRIVATE for part in holder.split(".")}
    # Of objects that only a running agent, or a scripted module, has; of functions, and of our own.
    others = {"_c", "_python_modules", "_concrete_type", "_cdata", "_modules", "_jit_override_qualname"}
    tree = ast.parse(inspect.getsource(_torch))
    own = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_self(node.value)}
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
    }
    assert used - own - others - listed == set()


def is_self(node):
    return isinstance(node, ast.Name) and node.id == "self"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("torch.__version__ = '2.1.0'", "this is torch 2.1.0; pip install 'torch>="),
        ("sys.version_info = (3, 8, 1)", "this is Python 3.8"),
        ("torch.distributed.rpc.is_available = lambda: False", "built with RPC"),
        (
            "torch.__version__ = '9.0.0'; del torch.jit._recursive.wrap_cpp_module; del torch._C.Node",
            "this is torch 9.0.0, which has no torch.jit._recursive.wrap_cpp_module, torch._C.Node; pip install",
        ),
    ],
)
def test_an_import_that_is_refused_says_so_in_one_line(change, message):
    program = f"""
import sys, torch, torch.distributed.rpc, torch.jit._recursive
{change}
try:
    import torchremote
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.count("\n") == 1, done.stderr
    assert message in done.stdout


def test_a_newer_torch_that_has_everything_is_warned_of(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "9.0.0")
    with pytest.warns(UserWarning, match=r"this is torch 9\.0\.0, which was not tested"):
        supported.check_import()


def test_the_doctor_finds_this_machine_fit(capsys):
    status = cli.main(["doctor"])
    told = capsys.readouterr().out
    assert status == 0, told
    assert "answered" in told
    assert f"torch {torch.__version__}" in told


def test_what_the_doctor_finds_wrong(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(torch, "__version__", "9.0.0")
    monkeypatch.setitem(supported.PRIVATE, "torch.jit", "no_such_name")
    monkeypatch.setattr(doctor, "SHARED_MEMORY", str(tmp_path / "absent"))
    monkeypatch.setattr(doctor, "compile_interface", fail)
    assert cli.main(["doctor"]) == 1
    told = capsys.readouterr().out
    for wrong in (
        "WRONG  versions",
        "WRONG  names of torch's own: not there: torch.jit.no_such_name",
        "WRONG  compiler: nothing compiles",
        "WRONG  shared memory",
    ):
        assert wrong in told


def test_workers_that_do_not_meet():
    told = str(doctor._rpc("xpu:7", mapped=False))
    assert told.startswith("WRONG  a call to another process, module on xpu:7: torchremote.errors.PlaceError: ")
    assert "TP_SOCKET_IFNAME" in told


def test_little_shared_memory(monkeypatch):
    monkeypatch.setattr(doctor, "ROOM", 1 << 60)
    assert "--shm-size" in str(doctor._shared_memory())


def fail(*args):
    raise RuntimeError("nothing compiles")


def test_a_torch_that_cannot_compile_ahead(monkeypatch):
    supported.check_ahead()
    monkeypatch.setattr(supported, "AHEAD", {"torch": "no_such_name"})
    with pytest.raises(ImportError, match=r"compiled: this is torch .*, which has no torch.no_such_name; use exported"):
        supported.check_ahead()
