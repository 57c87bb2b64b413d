"""How tests count what an owner hosts, and wait for what another process does in its own time."""

import gc
import threading
import time

import torch.distributed.rpc as rpc

from . import owner_process as remote


def hosted(owner):
    gc.collect()
    return rpc.rpc_sync(owner, remote.count_hosted)


def until(condition, seconds=20):
    """Waits for what another process does in its own time."""
    pause, end = threading.Event(), time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        pause.wait(0.02)
