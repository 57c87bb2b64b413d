"""Runs commands of the command line in processes of their own, as nobody's test process may be in their group."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import traceback

from ..forks import Fork
from ..waiting import until


class Program:
    """A command that goes on until it is told to end, in a process of its own."""

    def __init__(self, output, *command):
        self.output = output
        self._process = Fork(run_program, list(command), output=output)
        self.pid = self._process.pid

    def said(self, pattern, seconds=60):
        """Waits until it has printed a line that matches. Returns the match."""

        def found():
            assert self._process.poll() is None, self.output.read_text()
            return re.search(pattern, self.output.read_text(), re.MULTILINE) if self.output.exists() else None

        until(found, seconds)
        return found()

    def end(self, number=signal.SIGTERM, seconds=60):
        """Sends a signal. Returns the exit status, and all that it printed."""
        os.kill(self.pid, number)
        return self.ended(seconds)

    def ended(self, seconds=60):
        return self._process.wait(seconds), self.output.read_text()

    def kill(self):
        self._process.kill()
        self._process.wait()


def run_program(command):
    from torchremote.tools import cli

    sys.exit(cli.main(command))


def run_commands(folder, *commands, seconds=100):
    """Runs commands one after the other. Returns of each the exit status, and what went to stdout and stderr."""
    results = folder / "results.json"
    process = Fork(_run_commands, commands, str(results), output=folder / "output")
    try:
        assert process.wait(seconds) == 0, (folder / "output").read_text()
    except subprocess.TimeoutExpired:
        raise AssertionError((folder / "output").read_text()) from None
    finally:
        process.kill()
        process.wait()
    return [tuple(result) for result in json.loads(results.read_text())]


def _run_commands(commands, results):
    from torchremote.tools import cli

    done = []
    for command in commands:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = cli.main(list(map(str, command)))
            except SystemExit as ended:
                status = ended.code
            except Exception:
                status = traceback.format_exc()
        done.append((status, out.getvalue(), err.getvalue()))
    with open(results, "w") as file:
        json.dump(done, file)


@contextlib.contextmanager
def programs():
    """A function that starts programs, which end at the end."""
    started = []

    def start(*arguments):
        started.append(Program(*arguments))
        return started[-1]

    try:
        yield start
    finally:
        for program in started:
            program.kill()
