"""A caller that gave up before the owner's answer came: nothing stays, and all can shut down."""

import os
import re
import signal
import threading

import torch.distributed.rpc as rpc

import torchremote as tr
from torchremote.errors import CallTimeoutError

from .. import zoo
from ..group import play
from ..waiting import until

COUNT = 10


def owning(store):
    store.wait(["sent"])
    waking = threading.Event()
    waking.wait(3)  # longer than the caller's timeout
    os.kill(int(store.get("caller")), signal.SIGCONT)
    store.wait(["done"])


def stopped(store):
    """Is stopped while the answers are on their way. When it goes on, their time is over."""
    rpc._set_rpc_timeout(1)
    tr.create("owning", zoo.Encoder, zoo.LinearEncoder)  # both have compiled the interface
    pending = [tr.create_async("owning", zoo.Encoder, zoo.LinearEncoder) for _ in range(COUNT)]
    store.set("caller", str(os.getpid()))
    store.set("sent", "yes")
    os.kill(os.getpid(), signal.SIGSTOP)
    late = 0
    for one in pending:
        try:
            one.wait()
        except CallTimeoutError:
            late += 1
    del pending, one
    rpc._set_rpc_timeout(30)
    until(lambda: not tr.stats("owning").modules)
    print(f"late {late}", flush=True)
    store.set("done", "yes")


def test_modules_whose_answers_came_too_late_go_and_all_shut_down(tmp_path):
    _, told = play(tmp_path, owning, stopped, shared_memory=False)
    assert int(re.search(r"late (\d+)", told)[1]) > 0
