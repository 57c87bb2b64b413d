"""Starts workers of groups within milliseconds: a process that has everything imported forks them.

A test of a group runs in a process of its own, because a process has one RPC group. Before that process joins, it forks
a nursery, which forks workers on demand. What is left of them ends with the test.
"""

import contextlib
import json
import os
import pathlib
import signal
import socket
import sys
import time
import traceback

import pytest
import torch

import torchremote
from torchremote import _torch

from .. import zoo as zoo  # so that workers have it imported
from ..forks import Fork
from ..group import end_with_the_parent
from ..waiting import stop, until


class Worker:
    """A worker that a nursery started."""

    def __init__(self, name, pid, said):
        self.name, self.pid, self._said = name, pid, said

    def said(self):
        """Returns what it said of its join: "" if that succeeded; None as long as it has not."""
        return self._said.read_text() if self._said.exists() else None

    def joined(self):
        until(lambda: self.said() is not None, seconds=60)
        assert self.said() == "", self.said()
        return self

    def signal(self, number):
        os.kill(self.pid, number)

    def stop(self):
        stop(self.pid)

    def kill(self):
        self.signal(signal.SIGKILL)

    def ended(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, 0)
            return False
        return True


class Nursery:
    """Starts workers, which say in files of `folder` whether they have joined."""

    def __init__(self, folder):
        self._folder = pathlib.Path(folder)
        self._count = 0
        self._ours, theirs = socket.socketpair()
        if os.fork() == 0:
            self._ours.close()
            _run_nursery(theirs)
        theirs.close()
        self._answers = self._ours.makefile("r")

    def start(self, name, address=None, **options):
        """Starts a worker that joins the group at `address`, and does nothing more by itself."""
        self._count += 1
        said = self._folder / str(self._count)
        order = {"name": name, "address": address, "options": options, "said": str(said)}
        self._ours.sendall(json.dumps(order).encode() + b"\n")
        return Worker(name, int(self._answers.readline()), said)

    def join(self, name, **options):
        """Starts a worker in this process's group, and waits until it has joined."""
        return self.start(name, torchremote.group_address(), **options).joined()


def _run_nursery(theirs):
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody has to wait for what ended
    started = []
    for line in theirs.makefile("r"):
        pid = os.fork()
        if pid == 0:
            theirs.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _run_worker(**json.loads(line))
        started.append(pid)
        theirs.sendall(f"{pid}\n".encode())
    for pid in started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    os._exit(0)


def _run_worker(name, address, options, said):
    status = 1
    try:
        end_with_the_parent()
        torch.set_num_threads(1)
        text = ""
        try:
            torchremote.join(name, address, **{"shared_memory": False, "threads": 4, **options})
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
        part = pathlib.Path(f"{said}.part")
        part.write_text(text)
        part.rename(said)
        if not text:
            with contextlib.suppress(SystemExit):
                signal.signal(signal.SIGTERM, lambda *_: sys.exit())
                time.sleep(100_000)
            torchremote.leave()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def in_a_group(timeout=100, name="main", **options):
    """Makes a test of a function of a nursery. It runs in a process that has joined a group, with a hub of its own."""

    def decorate(body):
        @pytest.mark.timeout(timeout + 60)
        def test(tmp_path):
            output = tmp_path / "output"
            process = Fork(_run_body, body.__module__, body.body_name, name, options, tmp_path, output=output)
            try:
                status = process.wait(timeout)
                assert status == 0, f"exit status {status}\n{output.read_text()}"
            finally:
                process.kill()
                process.wait()

        body.body_name = body.__name__
        test.__name__ = body.__name__
        test.body = body
        return test

    return decorate


def _run_body(module, body, name, options, folder):
    import importlib

    torch.set_num_threads(1)
    nursery = Nursery(folder)
    if name is not None:
        torchremote.join(name, **{"shared_memory": False, "rpc_timeout": 20, **options})
    getattr(importlib.import_module(module), body).body(nursery)
    if _torch.rpc_running():
        torchremote.leave()


@contextlib.contextmanager
def raises_within(seconds, expected, **match):
    """Checks as `pytest.raises` does, and that the error comes in so many seconds."""
    start = time.monotonic()
    with pytest.raises(expected, **match) as found:
        yield found
    assert time.monotonic() - start < seconds


def elapsed(function, *args):
    """Returns the seconds that a call takes."""
    start = time.monotonic()
    function(*args)
    return time.monotonic() - start
