"""What is said on a Python or torch that is not supported, and by the doctor."""

import ast
import pathlib
import re
import resource
import subprocess
import sys
import warnings

import pytest
import torch

import torchremote
from torchremote import supported
from torchremote.tools import cli, doctor

# Private names of objects that only a running agent, a scripted module or a program has, and of functions.
OF_OBJECTS = set("_c _python_modules _concrete_type _cdata _modules _jit_override_qualname _guards_code".split())
OF_OBJECTS |= {"_schema", "_overloadname", "_torchdynamo_disable", "_torchdynamo_disable_msg"}
# What torch itself calls, and makes something that is used.
MAKE_OTHERS = {"_convert_guards_to_code"}
PACKAGE = pathlib.Path(torchremote.__file__).parent


def test_this_one_is():
    assert list(supported.missing_names()) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        supported.check_import()


def test_every_private_name_that_is_used_is_listed():
    listed = {name for names in supported.PRIVATE.values() for name in names.split()}
    for wanted in (supported.GROUPS, supported.AHEAD):
        listed |= {part for holder, names in wanted.items() for part in (*holder.split("."), *names.split())}
    listed |= {part for holder in supported.PRIVATE for part in holder.split(".")}
    assert (private_names("_torch") | private_names("jit/runtime")) - listed - OF_OBJECTS == set()


def test_every_name_that_is_listed_is_used():
    paths = [path for path in PACKAGE.rglob("*.py") if path.name != "supported.py"]
    text = "".join(path.read_text() for path in paths)
    listed = {name for names in supported.PRIVATE.values() for name in names.split()}
    assert {name for name in listed - MAKE_OTHERS if not re.search(rf"\b{name}\b", text)} == set()


def private_names(folder):
    """The private attributes that the files of a folder read of anything but themselves."""
    nodes = [node for path in files_in(folder) for node in ast.walk(ast.parse(path.read_text()))]
    found = [node for node in nodes if isinstance(node, ast.Attribute) and re.match(r"_(?!_)", node.attr)]
    own = {node.attr for node in found if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")}
    return {node.attr for node in found} - own


def files_in(folder):
    return sorted((PACKAGE / folder).glob("*.py"))


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


def test_the_doctor_finds_no_accelerator_where_torch_is_built_for_one_that_is_not_here(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 0)
    assert "none that torch can use" in str(doctor._accelerators())


@pytest.mark.parametrize("native", [False, True])
def test_the_doctor_looks_for_what_groups_need_and_compiled(monkeypatch, native):
    monkeypatch.setattr(doctor.native, "available", lambda: native)
    monkeypatch.setitem(supported.GROUPS, "torch.jit", "not_for_groups")
    monkeypatch.setitem(supported.AHEAD, "torch.jit", "not_for_compiled")
    told = str(doctor._private_names())
    assert "not there: torch.jit.not_for_groups" in told
    assert ("torch.jit.not_for_compiled" in told) == native


def test_workers_that_do_not_meet():
    told = str(doctor._rpc("xpu:7", mapped=False))
    assert told.startswith("WRONG  a call to another process, module on xpu:7: torchremote.errors.PlaceError: ")
    assert "TP_SOCKET_IFNAME" in told


def test_little_shared_memory(monkeypatch):
    monkeypatch.setattr(doctor, "ROOM", 1 << 60)
    assert "--shm-size" in str(doctor._shared_memory())


@pytest.mark.parametrize(
    ("limit", "most", "told"),
    [
        (
            1024,
            1024,
            "ok     open files: 1024 at most: enough for about 24 other workers, or 166 with shared_memory=False",
        ),
        (1024, 4096, "ok     open files: 1024 at most: .*=False; join raises it to 4096"),
        (1024, resource.RLIM_INFINITY, "ok     open files: 1024 at most: .*=False; join raises it to 65536"),
        (64, 64, "WRONG  open files: 64 at most: enough for about 0 other workers, or 6 with .*=False\n.*ulimit -n`"),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, "ok     open files: no limit"),
    ],
)
def test_open_files(monkeypatch, limit, most, told):
    monkeypatch.setattr(resource, "getrlimit", lambda what: (limit, most))
    assert re.fullmatch(told, str(doctor._open_files()))


def fail(*args):
    raise RuntimeError("nothing compiles")


def test_a_torch_that_cannot_compile_ahead():
    supported.check_has("compiled", supported.AHEAD, "use exported")
    with pytest.raises(ImportError, match=r"compiled: this is torch .*, which has no torch.no_such_name; use exported"):
        supported.check_has("compiled", {"torch": "no_such_name"}, "use exported")
