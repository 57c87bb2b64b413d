"""Starts owners as processes of this machine: see processes.py, Note [Ctrl-C and processes]."""

from __future__ import annotations

import json
import os
import pickle
import select
import subprocess
import sys
import time
from contextlib import suppress
from multiprocessing.connection import wait
from typing import IO, Any, Final, NamedTuple

from ..errors import GroupError
from ..link.timeouts import check_seconds
from ..locks import uninterrupted
from ..options import rpc_options
from .join import check_worker_name, joined
from .membership import MARGIN
from .processes import ENDING, forget_ended, has_ended, may_run, status_of, wait_for_end
from .spawned import JOINED

_PROGRAM: Final = """
import pickle, sys
asked = pickle.load(sys.stdin.buffer)
sys.path[:] = asked["path"]
from torchremote.group.spawned import main
main(asked)
"""

_OF_THE_PROCESS: Final = ("in_turn", "counts", "intraop_threads")
"""Options that change the process in which they are made."""
_STARTING: Final = 60.0  # seconds that a new Python has to import torch
_LOOK: Final = 0.5  # seconds between two looks whether the process lives


class _Begun(NamedTuple):
    process: subprocess.Popen[bytes]
    answers: IO[bytes]


class SpawnedWorker:
    """A process that `spawn` started."""

    def __init__(self, name: str, process: subprocess.Popen[bytes]) -> None:
        self.name = name
        self._process = process

    @property
    def pid(self) -> int:
        """Returns the number of the process."""
        return self._process.pid

    def terminate(self) -> None:
        """Asks the process to leave the group and end, by SIGTERM. Calls that it runs have 10 s to end."""
        uninterrupted(self._process.terminate)

    def kill(self) -> None:
        """Ends the process at once, by SIGKILL, as a crash does."""
        uninterrupted(self._process.kill)

    def poll(self) -> int | None:
        """Says whether the process has ended, and does not wait.

        Returns:
            Its exit status, as from `wait`. None: it runs.
        """
        return status_of(self._process) if has_ended(self._process) else None

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the process to end.

        Args:
            timeout: seconds; None waits without limit.

        Returns:
            Its exit status: 0 if it left; 1 if it had to end while a call ran; the number of a signal, negative, if
            that ended it.

        Raises:
            TimeoutError: it did not end in time.
        """
        if not wait_for_end(self._process, timeout):
            raise TimeoutError(f"{self!r} did not end within {timeout} s; .kill() it")
        return status_of(self._process)

    def __repr__(self) -> str:
        return f"<spawned worker {self.name!r}, process {self.pid}>"


def spawn(name: str, *, timeout: float = 60.0, **options: Any) -> SpawnedWorker:
    """Starts a worker on this machine that joins this process's group, to own modules.

    It is a new Python, in a session of its own, so Ctrl-C does not reach it. It imports from where this process does.
    It ends with this process, however that ends.

    Args:
        name: as for `join`.
        timeout: seconds in which the worker has to join.
        **options: those of `join`, for the new worker.

    Returns:
        The process: `.pid`, `.kill()`, `.terminate()`, `.wait()`, and `.poll()`, which says whether it runs.

    Raises:
        NotInitializedError: this process is in no group.
        GroupError: `init_rpc` began its group. Or the worker did not join; the message says why. No process is left.
        ValueError: `name` cannot be a worker's, or `timeout` is no number of seconds above 0.
        TypeError, ValueError: as from `rpc_options`.

    >>> import torchremote as tr
    >>> tr.join("main")
    >>> ps = tr.spawn("ps")
    >>> ps.terminate()
    >>> ps.wait()
    0
    >>> tr.leave()
    """
    check_worker_name(name)
    check_seconds(timeout)
    given = {"name": name, "address": joined("spawn").address, "timeout": timeout, **options}
    if "rpc_backend_options" not in options:  # raises here what would be raised there
        rpc_options(**{option: value for option, value in options.items() if option not in _OF_THE_PROCESS})
    begun: list[_Begun] = []
    try:
        uninterrupted(lambda: begun.append(_begin()))
        [(process, answers)] = begun
        asked = pickle.dumps({"path": sys.path, "parent": os.getpid(), "join": given})
        said = _start(process, answers, asked, time.monotonic() + _STARTING + timeout + MARGIN)
        answers.close()
        if said != JOINED:
            said = said.removeprefix(f"join {name!r}: ")
            raise GroupError(f"spawn {name!r}: {said or 'the process ended before it had joined'}")
        uninterrupted(forget_ended)
        may_run.add(process)
        return SpawnedWorker(name, process)  # in `try`: Ctrl-C may come just here
    except BaseException:
        uninterrupted(lambda: _end(begun))
        raise


def _begin() -> _Begun:
    """Starts a process that waits for what it is asked."""
    reading, writing = os.pipe()
    try:
        command = [sys.executable, "-c", _PROGRAM, str(writing)]
        process = subprocess.Popen(
            command, bufsize=0, stdin=subprocess.PIPE, pass_fds=[writing], start_new_session=True
        )
        return _Begun(process, open(reading, "rb"))
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)


def _end(begun: list[_Begun]) -> None:
    for process, answers in begun:
        answers.close()
        if process.stdin is not None:
            process.stdin.close()
        process.kill()
        try:
            process.wait(ENDING)
            may_run.discard(process)
        except subprocess.TimeoutExpired:
            may_run.add(process)  # until it has ended


def _start(process: subprocess.Popen[bytes], answers: IO[bytes], asked: bytes, until: float) -> str:
    """Tells a process what to do, and returns its answer. It is empty if the process ends without one.

    Args:
        until: when it has to have answered, as `time.monotonic` has it.
    """
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin:
        _write(process.stdin.fileno(), asked, until)
    # The end of the pipe may never come: whatever another thread forked before we closed the end for writing holds
    # that, too.
    while time.monotonic() < until:
        ended = has_ended(process)
        if wait([answers.fileno()], 0 if ended else _LOOK):
            line = answers.readline()
            return json.loads(line) if line.endswith(b"\n") else ""
        if ended:
            return ""
    return "the process does not answer: is it stopped, or do its imports take long? Then give spawn a longer timeout"


def _write(pipe: int, asked: bytes, until: float) -> None:
    """Writes into a pipe whose other end may not be read."""
    os.set_blocking(pipe, False)
    writable = select.poll()
    writable.register(pipe, select.POLLOUT)
    while asked and time.monotonic() < until:
        if writable.poll(_LOOK * 1e3):
            asked = asked[os.write(pipe, asked) :]
