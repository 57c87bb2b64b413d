"""How tests see what an owner hosts, and wait for what another process does in its own time."""

import gc
import os
import pathlib
import signal
import tempfile
import threading
import time

import torch.distributed.rpc as rpc

from . import owner_process as remote


def hosted(owner):
    """Returns what it hosts, as a set. How many there are says little: modules of tests before may go at any time."""
    gc.collect()
    return rpc.rpc_sync(owner, remote.hosted_here)


def until(condition, seconds=20):
    """Waits for what another process does in its own time."""
    pause, end = threading.Event(), time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        pause.wait(0.02)


def stop(pid):
    """Stops a process. Returns when all its threads have stopped: those that wait for a core answer until then."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: all(map(_has_stopped, pathlib.Path(f"/proc/{pid}/task").iterdir())))


def _has_stopped(thread):
    try:
        return "State:\tT" in (thread / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True  # it has ended


def holding_the_gil(owner, seconds):
    """Has an owner hold its GIL, from when this returns. Returns the Future of the end."""
    with tempfile.TemporaryDirectory() as folder:
        sign = os.path.join(folder, "held")
        held = rpc.rpc_async(owner, remote.hold_the_gil, (seconds, sign))
        until(lambda: os.path.exists(sign))
    return held
