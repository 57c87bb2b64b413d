"""Processes forked from one that has torch imported, where how a worker starts is not what is tested.

torchremote is not imported there: what it draws when it is imported, such as the key of its handles, is each worker's
own.
"""

import faulthandler
import multiprocessing
import multiprocessing.forkserver
import os
import subprocess
import threading

import torch

FORKS = multiprocessing.get_context("forkserver")
_PRELOADED = ["torch", "torch.distributed.rpc", "hypothesis", "numpy", "pytest"]
if torch.version.cuda is None:  # where there is CUDA, this starts it, and a process that is forked then cannot use it
    _PRELOADED.append("torch.testing._internal.distributed.rpc_utils")  # takes longer than torch itself
FORKS.set_forkserver_preload(_PRELOADED)


def start_server():
    """Starts the process that is forked, unless it runs. It ends with this one."""
    before = dict(os.environ)
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # a thread of numpy's would not be in its forks
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)


class Fork:
    """Runs `function`, of a module, with the environment of now, as if it were a Popen. It ends with this process.

    What it prints goes to a file of the path `output`, or to nobody.
    """

    def __init__(self, function, *arguments, output=os.devnull):
        start_server()
        self._process = FORKS.Process(
            target=_run, args=(dict(os.environ), str(output), function, arguments), daemon=True
        )
        self._process.start()
        self.pid, self.kill = self._process.pid, self._process.kill

    def poll(self):
        return self._process.exitcode

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout)
        return self._process.exitcode


def _run(environment, output, function, arguments):
    os.environ.clear()
    os.environ.update(environment)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    faulthandler.enable()  # it writes to standard error, if the process crashes
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    function(*arguments)


def _end_with_the_parent():
    multiprocessing.parent_process().join()
    os._exit(1)
