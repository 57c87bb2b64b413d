"""An owner is killed and comes back, again and again, while two callers call it from many threads."""

import random
import threading
import time

import torch
import torch.distributed.rpc as rpc

import torchremote as tr

from .. import zoo
from ..waiting import until
from . import roles
from .nursery import in_a_group
from .test_follow import Holding, X
from .test_idempotent import Patient

ROUNDS = 15
_state = {}


def begin():
    """Starts to call the encoder on ps: from Python, and in a scripted model."""
    stub = tr.connect("ps", Patient, "encoder", timeout=30)
    model = torch.jit.script(Holding(tr.connect("ps", zoo.Encoder, "encoder", timeout=5)))
    stop, wrong, counts = threading.Event(), [], []

    def call(function, recovers):
        good = 0
        while not stop.is_set():
            try:
                result = function(X)
            except Exception as error:
                if not recovers:
                    wrong.append(repr(error)[:500])
                else:
                    recover()
                continue
            good += 1
            if not torch.equal(result, roles.expected(X)):
                wrong.append("another value")
        counts.append(good)

    def recover():
        try:
            tr.reconnect(model)
        except tr.TorchRemoteError:
            time.sleep(0.01)

    calls = [(stub, False), (lambda x: stub.forward_async(x).wait(), False)] * 2 + [(model, True)]
    threads = [threading.Thread(target=call, args=given, daemon=True) for given in calls]
    _state.update(stop=stop, wrong=wrong, counts=counts, threads=threads)
    for thread in threads:
        thread.start()


def end():
    """Stops calling. Returns what was wrong, and how many calls of each thread were right."""
    _state["stop"].set()
    for thread in _state["threads"]:
        thread.join(40)
        assert not thread.is_alive(), "it hangs"
    return _state["wrong"], _state["counts"]


@in_a_group(timeout=150)
def test_idempotent_calls_have_no_error_and_nobody_hangs(nursery):
    nursery.join("other")
    owner = nursery.join("ps")
    rpc.rpc_sync("ps", roles.serve_encoder)
    begin()
    rpc.rpc_sync("other", begin)
    for number in range(ROUNDS):
        time.sleep(random.Random(number).uniform(0.05, 0.4))
        owner.kill()
        if number % 2:  # otherwise the next one comes while the hub may not have noticed
            until(lambda: "ps" not in roles.members())
        while True:
            owner = nursery.start("ps", tr.group_address())
            until(lambda owner=owner: owner.said() is not None, seconds=60)
            if not owner.said():
                break
        rpc.rpc_sync("ps", roles.serve_encoder)
    time.sleep(1)
    for wrong, counts in (end(), rpc.rpc_sync("other", end, timeout=100)):
        assert wrong == []
        assert min(counts) > 5, counts
