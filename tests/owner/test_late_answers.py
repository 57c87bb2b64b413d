"""A caller that gave up before the owner's answer came: nothing stays, and all can shut down."""

import contextlib
import os
import signal
import threading

import pytest
import torch.distributed.rpc as rpc

import torchremote as tr
from torchremote.errors import CallTimeoutError

from .. import zoo
from ..group import play
from ..waiting import until

COUNT = 10

_caller_gave_up = threading.Event()  # on the owner


def give_up():
    _caller_gave_up.set()


def held():
    """Makes a module whose answer comes too late for certain."""
    assert _caller_gave_up.wait(60)
    return zoo.LinearEncoder()


def is_idle(stats):
    """Says whether an owner runs no call but the question for its stats, and has no module."""
    return stats.running == 1 and not stats.modules


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
    pending = [tr.create_async("owning", zoo.Encoder, made) for made in (held, *[zoo.LinearEncoder] * COUNT)]
    store.set("caller", str(os.getpid()))
    store.set("sent", "yes")
    os.kill(os.getpid(), signal.SIGSTOP)
    first, *others = pending
    with pytest.raises(CallTimeoutError):
        first.wait()
    for one in others:
        with contextlib.suppress(CallTimeoutError):  # the answers, and the ends of their times, come all at once
            one.wait()
    del pending, first, others, one
    rpc._set_rpc_timeout(30)
    rpc.rpc_sync("owning", give_up)
    until(lambda: is_idle(tr.stats("owning")))
    store.set("done", "yes")


def test_modules_whose_answers_came_too_late_go_and_all_shut_down(tmp_path):
    play(tmp_path, owning, stopped, shared_memory=False)
