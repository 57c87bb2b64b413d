"""Runs a program as a group of RPC workers on this machine: one process for each, which run the same file."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping

import torch
import torch.distributed.rpc as rpc


def run(roles: Mapping[str, Callable[[], None] | None]) -> None:
    """Starts a worker for each of `roles`, {name: function or None}, which calls its function; the others serve."""
    if "DROP_IN_WORKER" in os.environ:
        _work(os.environ["DROP_IN_WORKER"], roles)
        return
    with tempfile.TemporaryDirectory() as folder:
        processes = []
        try:
            for name in roles:
                environment = {**os.environ, "DROP_IN_WORKER": name, "DROP_IN_FOLDER": folder}
                processes.append(subprocess.Popen([sys.executable, "-W", "ignore", *sys.argv], env=environment))
            for process in processes:
                if process.wait(timeout=300):
                    sys.exit("a worker failed")
        finally:
            for process in processes:
                process.kill()


def rendezvous(what: str) -> str:
    """A file at which processes of the program meet."""
    return f"file://{os.environ['DROP_IN_FOLDER']}/{what}"


def _work(name: str, roles: Mapping[str, Callable[[], None] | None]) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    options = rpc.TensorPipeRpcBackendOptions(init_method=rendezvous("rpc"))
    rpc.init_rpc(name, rank=list(roles).index(name), world_size=len(roles), rpc_backend_options=options)
    role = roles[name]
    if role is not None:
        role()
    rpc.shutdown()  # waits until everybody is done
