"""The sdist and the wheel build, and what they install works."""

import shutil
import subprocess
import sys
import sysconfig
import tarfile

import torchremote

from .blocks import ROOT

BUILD = "import sys; from setuptools import build_meta as it; print(getattr(it, f'build_{sys.argv[1]}')(sys.argv[2]))"
FILES = """
CHANGELOG.md CONTRIBUTING.md LICENSE MANIFEST.in Makefile README.md conftest.py constraints.txt pyproject.toml setup.cfg
"""
NOT_SOURCE = ("__pycache__", "_build", ".*")
CALL = """
import tempfile, torch, torch.distributed.rpc as rpc, torchremote as tr

class Scaler:
    def forward(self, x: torch.Tensor, by: float = 2.0) -> torch.Tensor: ...

assert tr.__file__.startswith({folder!r}), tr.__file__
options = tr.rpc_options(init_method=f"file://{{tempfile.mkdtemp(dir={folder!r})}}/group")
rpc.init_rpc("me", rank=0, world_size=1, rpc_backend_options=options)
scaler = tr.create("me", Scaler, {module})
print(scaler(torch.ones(3)).tolist())
del scaler
rpc.shutdown()
"""
MODULE = """
import torch
class ScalerModule(torch.nn.Module):
    def forward(self, x: torch.Tensor, by: float):
        return x * by
"""


def run(*command, cwd):
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout.strip().rpartition("\n")[2]


def test_sdist_and_wheel_build_install_and_work(tmp_path):
    source, built, there = tmp_path / "source", tmp_path / "built", tmp_path / "there"
    for folder in (source, built, there):
        folder.mkdir()
    # A copy, which building may write into.
    for folder in ("torchremote", "tests", "docs", "examples", "benchmarks"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns(*NOT_SOURCE))
    for name in FILES.split():
        shutil.copy(ROOT / name, source)
    copied = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    sdist = run(sys.executable, "-W", "ignore", "-c", BUILD, "sdist", built, cwd=source)
    with tarfile.open(built / sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert sorted(copied - {str(path.relative_to(unpacked)) for path in unpacked.rglob("*")}) == []  # it has its tests
    wheel = run(sys.executable, "-W", "ignore", "-c", BUILD, "wheel", built, cwd=unpacked)

    # An empty environment, into which torch comes from here once the wheel is installed.
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "empty", cwd=there)
    python = tmp_path / "empty" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--no-index", "--no-deps", built / wheel, cwd=there)
    (site,) = (tmp_path / "empty" / "lib").glob("python*/site-packages")
    (site / "torch.pth").write_text(sysconfig.get_path("purelib") + "\n")

    version = torchremote.__version__
    assert run(python, "-W", "ignore", "-m", "torchremote", "--version", cwd=there) == version
    (there / "scaler.py").write_text(MODULE)
    call = "import scaler\n" + CALL.format(folder=str(tmp_path), module="scaler.ScalerModule")
    assert run(python, "-W", "ignore", "-c", call, cwd=there) == "[2.0, 2.0, 2.0]"
    assert (site / "torchremote" / "py.typed").exists()
    for name in ("caller.cpp", "following.h"):
        assert (site / "torchremote" / "native" / name).exists()
