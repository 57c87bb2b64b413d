"""Every block of the language `console` runs as written, and prints what it says."""

import doctest
import signal
import socket
from contextlib import ExitStack

import pytest

from ..waiting import until
from .blocks import PAGES, session_of, write_files
from .processes import PYTHON, finish, started

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def prints(expected, got):
    return doctest.OutputChecker().check_output(expected, got, FLAGS)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", [page for page in PAGES if session_of(page)])
def test_sessions_run_as_written(page, tmp_path):
    write_files(page, tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    # What torch logs on standard error is no part of a session.
    env = {**PYTHON, "TORCHREMOTE_ADDRESS": f"127.0.0.1:{port}", "PYTHONUNBUFFERED": "1"}
    commands = session_of(page)
    with ExitStack() as programs:
        going_on = []
        for number, command in enumerate(commands):
            folder = tmp_path / f"command_{number}"
            expected = command.expected.replace("29600", port)
            text = f"cd {tmp_path}; exec {command.text.removesuffix('&')} 2> {folder}/errors.txt"
            program = programs.enter_context(started(["bash", "-c", text], folder, env))
            output, where = folder / "output.txt", f"{PAGES[page]}:{command.line}"
            if command.text.endswith("&"):
                going_on.append((program, folder))
                until(lambda output=output, expected=expected: prints(expected, output.read_text()), seconds=60)
            else:
                told = finish(program, folder, 60)
                assert prints(expected, told), f"{where} printed\n{told}\n{(folder / 'errors.txt').read_text()}"
        for program, folder in reversed(going_on):
            program.send_signal(signal.SIGTERM)
            finish(program, folder, 60)
