"""Programs of tests/docs, which end with their test whatever happens."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress

from .blocks import ROOT

PYTHON = {
    **os.environ,
    "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
    "PYTHONPATH": str(ROOT),
    "PYTHONWARNINGS": "ignore",
}


@contextmanager
def started(command, folder, env=PYTHON):
    """A program, in a session of its own, that writes into FOLDER/output.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "output.txt").open("w") as output:
        program = subprocess.Popen(
            command, cwd=folder, env=env, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield program
    finally:
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()


def finish(program, folder, seconds):
    """Returns what the program wrote. It has to end well, and in time."""
    with suppress(subprocess.TimeoutExpired):
        program.wait(timeout=seconds)
    told = (folder / "output.txt").read_text()
    assert program.poll() == 0, f"{'still running' if program.poll() is None else program.poll()}:\n{told}"
    return told
