import subprocess
import sys

import pytest

from torchremote.jit import Placement, compile_interface
from torchremote.tools.cli import main

from .. import zoo


def test_emit_prints_what_is_generated(capsys):
    assert main(["emit", "tests.zoo:Encoder"]) == 0
    assert capsys.readouterr().out == compile_interface(zoo.Encoder).source


@pytest.mark.parametrize("placement", Placement)
def test_emit_prints_one_placement(capsys, placement):
    assert main(["emit", "tests.zoo:Encoder", "--placement", placement.value]) == 0
    out = capsys.readouterr().out
    assert out == compile_interface(zoo.Encoder).contract.sources[placement.value]
    assert ("x.to(device)" in out) == (placement is not Placement.HOST)
    assert (".cpu()" in out) == (placement is Placement.STAGED)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("tests.zoo", "write package.module:Interface"),
        ("no.such:Thing", "No module named"),
        ("tests.zoo:Absent", "no attribute 'Absent'"),
        ("tests.zoo:interface_of", "is a function, not a class"),
        ("tests.zoo:Missing.nothing", "no attribute 'nothing'"),
    ],
)
def test_what_emit_refuses(capsys, target, message):
    assert main(["emit", target]) == 1
    assert message in capsys.readouterr().err


def test_the_module_runs_as_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "torchremote", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "0.1.0"


@pytest.mark.timeout(200)
def test_the_demo_trains_and_measures(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "torchremote", "demo", "--quick", "--output", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    assert "held-out accuracy: 0.9" in done.stdout
    for way in ("torchremote", "torch RemoteModule, scripted", "torch RemoteModule, Python"):
        assert f"\n{way} " in done.stdout
    assert (tmp_path / "latency.png").stat().st_size > 1000
