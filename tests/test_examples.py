"""The examples run, shortened."""

import os
import pathlib
import re
import runpy
import signal
import subprocess
import sys
import traceback
import warnings

import pytest
import torch.distributed.rpc as rpc

from .forks import Fork
from .group import end_with_the_parent

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"


def run(*command):
    done = subprocess.run([sys.executable, *command], cwd=EXAMPLES, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert "reconnect: " not in done.stderr  # a warning of ours
    return done.stdout


class ForkedWorker:
    """What a program starts as an interpreter that runs the program, too: a fork of this process that does."""

    def __init__(self, command, env):
        assert command == [sys.executable, "-W", "ignore", *sys.argv]
        self.pid = os.fork()
        if self.pid:
            return
        status = 1
        try:
            end_with_the_parent()
            os.environ.update(env)
            runpy.run_path(sys.argv[0], run_name="__main__")
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)

    def wait(self, timeout):
        pid, self.pid = self.pid, None
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def kill(self):
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)


class WithoutSharedMemory(rpc.TensorPipeRpcBackendOptions):
    """For that, torch keeps a core of every worker busy."""

    def __init__(self, **options):
        super().__init__(**{**options, "_transports": ["uv"]})


def act(errors, program, *options):
    """Runs a program here, and its workers as forks."""
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT), 2)
    warnings.simplefilter("ignore")
    subprocess.Popen = ForkedWorker
    rpc.TensorPipeRpcBackendOptions = WithoutSharedMemory
    sys.argv = [program, *options]
    sys.path.insert(0, os.path.dirname(program))
    runpy.run_path(program, run_name="__main__")


def run_forked(folder, program, *options):
    folder.mkdir()
    output, errors = folder / "output.txt", folder / "errors.txt"
    process = Fork(act, str(errors), str(EXAMPLES / program), *options, output=output)
    try:
        assert process.wait(timeout=110) == 0, errors.read_text()
    finally:
        process.kill()
    return output.read_text()


def test_two_parts_are_trained_saved_and_served():
    told = run("two_parts/run.py", "--epochs", "4")
    trained, served = re.findall(r"accuracy (0\.\d+)", told)
    assert float(trained) > 0.8
    assert served == trained
    assert "parts.py imported here: False" in told


def test_a_language_model_in_two_exported_halves_writes_what_it_writes_here():
    told = run("-W", "ignore", "language_model/run.py", "--steps", "5")
    assert "Beautiful is" in told
    assert "the same as here: True" in told


def test_a_server_that_is_killed_comes_back_from_its_checkpoint():
    told = run("comes_back/train.py", "--steps", "120")
    back = re.findall(r"step (\d+): the server is lost; back to step (\d+): loss (0\.\d+)", told)
    assert [(lost, to) for lost, to, _ in back] == [("47", "40"), ("87", "80")]
    losses = dict(re.findall(r"^step (\d+): loss (0\.\d+)$", told, re.MULTILINE))
    assert [losses[to] for _, to, _ in back] == [loss for *_, loss in back], "it goes on from there"
    assert list(losses) == [str(step) for step in range(0, 121, 20)]
    assert list(losses.values()) == sorted(losses.values(), reverse=True)


@pytest.mark.parametrize(
    ("program", "shortened"),
    [("parameter_server", "--epochs=1"), ("pipeline", "--epochs=1"), ("actor_learner", "--rounds=3")],
)
def test_programs_for_torchs_class_give_the_same_numbers_with_ours(program, shortened, tmp_path):
    ours = run_forked(tmp_path / "ours", f"drop_in/{program}.py", shortened)
    theirs = run_forked(tmp_path / "theirs", f"drop_in/{program}.py", shortened, "--torch")
    assert re.search(r"\d\.\d{2}", ours)
    assert ours == theirs
    if program == "actor_learner":  # all start themselves by workers.py
        assert run(f"drop_in/{program}.py", shortened) == ours


def test_a_learner_that_gathers_gives_the_same_numbers(tmp_path):
    options = ("drop_in/actor_learner.py", "--rounds=2", "--games=4")
    assert run_forked(tmp_path / "plain", *options) == run_forked(tmp_path / "gathered", *options, "--gather")
