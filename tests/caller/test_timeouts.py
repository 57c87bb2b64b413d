"""Timeouts that torch would not take as they are, and owners that stopped."""

import math
import os
import signal
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.distributed.rpc as rpc

import torchremote as tr
from torchremote.caller.calls.following import METHODS
from torchremote.errors import CallTimeoutError
from torchremote.link.route import route_of
from torchremote.link.timeouts import LONGEST_TIMEOUT, check_timeout

from .. import zoo
from ..group import play
from ..waiting import holding_the_gil, stop


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (None, None),
        (0, 0.0),
        (-0.0, 0.0),
        (5e-324, 0.001),
        (0.0004, 0.001),
        (0.001, 0.001),
        (0.0011, 0.002),
        (0.3, 0.3),
        (0.1 + 0.2, 0.3),
        (7, 7.0),
        (np.int64(3), 3.0),
        (np.float32(0.5), 0.5),
        (Fraction(1, 3), 0.334),
        (1e9, LONGEST_TIMEOUT),
        (1e308, LONGEST_TIMEOUT),
        (10**400, LONGEST_TIMEOUT),
    ],
)
def test_timeouts_are_whole_milliseconds_and_not_too_long(given, taken):
    assert check_timeout(given) == taken


@pytest.mark.parametrize("given", [-1, -1e-9, math.inf, -math.inf, math.nan, True, np.True_, "5", 1j])
def test_what_is_no_timeout(given):
    with pytest.raises(
        ValueError, match="timeout=.*: a number of seconds is wanted, 0 for no limit, or None for RPC's default"
    ):
        check_timeout(given)


def made(owner, timeout):
    tr.create(owner, zoo.Sleeper, zoo.SlowLoop, name="slow", timeout=timeout)
    connected = tr.connect(owner, zoo.Sleeper, "slow", timeout=timeout)
    rpc.rpc_sync(owner, tr.withdraw, ("slow",))
    created = tr.create(owner, zoo.Sleeper, zoo.SlowLoop, timeout=timeout)
    pending = tr.create_async(owner, zoo.Sleeper, zoo.SlowLoop, timeout=timeout).wait()
    (many,) = tr.create_many([owner], zoo.Sleeper, zoo.SlowLoop, timeout=timeout)
    return connected, created, pending, many, tr.with_timeout(created, timeout)


def test_every_stub_has_a_timeout_that_torch_can_have(owner):
    for given, taken in ((0.0004, 0.001), (1e9, LONGEST_TIMEOUT)):
        assert {route_of(stub).timeout for stub in made(owner, given)} == {taken}


def test_the_longest_and_the_shortest_hold(owner):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    x = torch.ones(1, 8)
    assert torch.equal(tr.with_timeout(stub, 1e9)(x), stub(x))
    assert len(tr.at_owner(stub, timeout=1e9).state_dict()) == 2
    slow = tr.with_timeout(tr.create(owner, zoo.Sleeper, zoo.SlowLoop), 0.0004)
    with pytest.raises(CallTimeoutError):
        slow(torch.zeros(()), 200_000)


# -- a stopped owner


def stopping(store):
    store.set("pid", str(os.getpid()))
    store.wait(["end"])
    os._exit(0)


def asking(store):
    pid = int(store.get("pid"))
    stub = tr.create("stopping", zoo.Encoder, zoo.LinearEncoder, timeout=1)
    state = tr.at_owner(stub).state_dict()
    stop(pid)
    says = "^Encoder on stopping: no answer within {}; .* at_owner"
    for remote, limit in ((tr.at_owner(stub), "1 s"), (tr.at_owner(stub, timeout=0.5), "0.5 s")):
        for ask in (
            remote.state_dict,
            lambda remote=remote: remote.load_state_dict(state),
            remote.parameters,
            remote.eval,
            lambda remote=remote: remote.checkpoint("/nowhere/state.pt"),
            lambda remote=remote: remote.to("cpu"),
        ):
            with pytest.raises(CallTimeoutError, match=says.format(limit)):
                ask()
    os.kill(pid, signal.SIGCONT)
    patient = tr.at_owner(tr.with_timeout(stub, 0.001), timeout=0)
    assert len(patient.state_dict()) == 2
    store.set("end", "yes")
    print("timed out", flush=True)
    os._exit(0)  # answers that came too late had references, and an orderly shutdown would wait for them


def test_at_owner_does_not_wait_for_a_stopped_owner(tmp_path):
    _, told = play(tmp_path, stopping, asking)
    assert "timed out" in told


def test_the_error_says_what_the_worker_was_asked_for_and_how_long_it_had(owner):
    tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name="slow to find")
    stub = tr.connect(owner, zoo.Encoder, "slow to find", timeout=0.1)
    default = rpc.get_rpc_timeout()
    held = holding_the_gil(owner, 4)
    try:
        stub.__dict__[METHODS].lose()
        with pytest.raises(
            CallTimeoutError, match="asked for 'slow to find', .* within 0.1 s, the stub's timeout; give"
        ):
            stub(torch.ones(2, 8))
        with pytest.raises(CallTimeoutError, match="asked for 'slow to find', .* within 1 s; waited for it for 0.1 s"):
            tr.connect(owner, zoo.Encoder, "slow to find", wait=0.1, timeout=1)
        rpc._set_rpc_timeout(0.1)
        remedy = r"within RPC's default timeout; raise it with join\(.*, or rpc_options\(rpc_timeout=\) for init_rpc"
        with pytest.raises(CallTimeoutError, match=f"asked for 'slow to find', .* {remedy}"):
            tr.connect(owner, zoo.Encoder, "slow to find")
        with pytest.raises(CallTimeoutError, match=f"not created {remedy}"):
            tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    finally:
        rpc._set_rpc_timeout(default)
        held.wait()
        tr.withdraw("slow to find", owner)
