"""Groups of workers of their own, for tests whose workers come, go, and die: each is a process that plays a role."""

import importlib
import os
import subprocess
import sys
import threading

import torch
import torch.distributed as dist
import torch.distributed.rpc as rpc


def play(tmp_path, *roles, timeout=120):
    """Runs every role, a function of a test module, in a worker of its name; what each printed, in order.

    A role is given a store, in which roles tell each other how far they are. It fails if it raises, unless it ends its
    process itself with status 0.
    """
    folder = tmp_path / "_".join(role.__name__ for role in roles)
    folder.mkdir()
    outputs = [(folder / f"{rank}.txt").open("w+") for rank in range(len(roles))]
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.group", role.__module__, role.__name__, str(rank), str(len(roles)), folder],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        for rank, (role, output) in enumerate(zip(roles, outputs, strict=True))
    ]
    try:
        for worker in workers:
            worker.wait(timeout)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
        printed = []
        for output in outputs:
            output.seek(0)
            printed.append(output.read())
            output.close()
    for role, worker, text in zip(roles, workers, printed, strict=True):
        assert worker.returncode in (0, -9), f"{role.__name__} ended with {worker.returncode}\n{text}"
    return printed


def end_with_the_parent():
    """A test run that is killed ends nothing; and a worker whose group is gone waits for it, busily."""
    parent = os.getppid()

    def watch():
        pause = threading.Event()
        while os.getppid() == parent:
            pause.wait(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(module, name, rank, size, folder):
    end_with_the_parent()
    torch.set_num_threads(1)
    options = rpc.TensorPipeRpcBackendOptions(init_method=f"file://{folder}/rpc", rpc_timeout=30)
    store = dist.FileStore(f"{folder}/told", int(size))
    rpc.init_rpc(name, rank=int(rank), world_size=int(size), rpc_backend_options=options)
    getattr(importlib.import_module(module), name)(store)
    rpc.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
