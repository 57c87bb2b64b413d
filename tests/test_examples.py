"""The examples run, shortened."""

import pathlib
import re
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"


def run(*command):
    done = subprocess.run([sys.executable, *command], cwd=EXAMPLES, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_parts_are_trained_saved_and_served():
    told = run("two_parts/run.py", "--epochs", "4")
    trained, served = re.findall(r"accuracy (0\.\d+)", told)
    assert float(trained) > 0.8
    assert served == trained
    assert "parts.py imported here: False" in told


@pytest.mark.parametrize(
    ("program", "shortened"),
    [("parameter_server", "--epochs=1"), ("pipeline", "--epochs=1"), ("actor_learner", "--rounds=3")],
)
def test_programs_for_torchs_class_give_the_same_numbers_with_ours(program, shortened):
    ours, theirs = (run(f"drop_in/{program}.py", shortened, *option) for option in ((), ("--torch",)))
    assert re.search(r"\d\.\d{2}", ours)
    assert ours == theirs
