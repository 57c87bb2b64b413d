"""Groups of workers of their own, for tests whose workers come, go, and die: each is a process that plays a role."""

import importlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import torch
import torch.distributed as dist
import torch.distributed.rpc as rpc

import torchremote
from torchremote import native

from .forks import Fork

one_thread_for_forks = pytest.mark.skipif(
    native.available(), reason="with the native part, nothing has to be prepared: see native/test_strands.py"
)


def play(tmp_path, *roles, python=None, **options):
    """Runs every role, a function of a test module, in a worker of its name. Returns what each printed, in order.

    `python`: an interpreter, of this environment or another, to start for each; without it, they are forked.
    `options`: of `rpc_options`, for workers that are forked.

    A role is given a store, in which roles tell each other how far they are. It may raise nothing, and may kill itself.
    """
    folder = tmp_path / "_".join(role.__name__ for role in roles)
    folder.mkdir()
    outputs = [folder / f"{rank}.txt" for rank in range(len(roles))]
    workers = [
        Fork(_work, role.__module__, role.__name__, rank, len(roles), folder, options, output=output)
        if python is None
        else _start(python, role, rank, len(roles), folder, output)
        for rank, (role, output) in enumerate(zip(roles, outputs, strict=True))
    ]
    pause, end = threading.Event(), time.monotonic() + 80
    try:
        while any(worker.poll() is None for worker in workers) and time.monotonic() < end:
            if any(worker.poll() not in (None, 0, -signal.SIGKILL) for worker in workers):
                break  # the others would wait for it
            pause.wait(0.05)
    finally:
        ended = [worker.poll() for worker in workers]
        for worker in workers:
            worker.kill()
            worker.wait()
        printed = [output.read_text() for output in outputs]
    report = "\n".join(f"{role.__name__}: {how}\n{text}" for role, how, text in zip(roles, ended, printed, strict=True))
    assert all(how in (0, -signal.SIGKILL) for how in ended), report
    return printed


def _start(python, role, rank, size, folder, output):
    command = [python, "-m", "tests.group", role.__module__, role.__name__, str(rank), str(size), folder]
    with output.open("w") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)


def close_the_port():
    """Has torch take no more connections of others, as after a port scan: one ends before torch has greeted it."""
    closed = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue  # it is no socket, or was closed meanwhile
        with found:
            if found.family == socket.AF_INET and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                socket.create_connection(found.getsockname()).close()
                closed += 1
    assert closed == 1


def end_with_the_parent():
    """Ends this process with the one that started it.

    A test run that is killed ends nothing, and a worker whose group is gone waits for it, busily.
    """
    parent = os.getppid()

    def watch():
        pause = threading.Event()
        while os.getppid() == parent:
            pause.wait(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _work(module, name, rank, size, folder, options):
    torch.set_num_threads(1)
    options = torchremote.rpc_options(init_method=f"file://{folder}/rpc", rpc_timeout=30, **options)
    store = dist.FileStore(f"{folder}/told", size)
    rpc.init_rpc(name, rank=rank, world_size=size, rpc_backend_options=options)
    getattr(importlib.import_module(module), name)(store)
    rpc.shutdown()


def main(module, name, rank, size, folder):
    end_with_the_parent()
    _work(module, name, int(rank), int(size), folder, {})


if __name__ == "__main__":
    main(*sys.argv[1:])
