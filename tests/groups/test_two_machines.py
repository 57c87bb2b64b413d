"""Groups over two machines, with a firewall and a cable between them."""

import functools
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import torch
import torch.distributed.rpc as rpc

import torchremote as tr
from torchremote.errors import CallTimeoutError, GroupError, NotInGroupError, WireError
from torchremote.group import hub

from .. import zoo
from ..forks import Fork
from ..waiting import until
from . import roles
from .machines import Machines, why_not
from .nursery import Nursery, elapsed, raises_within
from .test_follow import X, is_from
from .test_idempotent import Patient

NOTICED = 8.0
"""Seconds: the hub notices a lost machine within 5, and this one may be busy."""


def on_two_machines(body):
    """Makes a test of a function of the machines and of a nursery there. It runs here, and has joined as "main"."""

    @pytest.mark.timeout(200)
    @functools.wraps(body)
    def test(tmp_path):
        reason = why_not()
        if reason:
            pytest.skip(f"no two machines here: {reason}")
        output = tmp_path / "output"
        with Machines("") as machines:
            process = Fork(run, body.__name__, machines, tmp_path, output=output)
            try:
                assert process.wait(150) == 0, output.read_text()
            finally:
                process.kill()
                process.wait()

    del test.__wrapped__  # pytest would look for its arguments
    test.body = body
    return test


def run(name, machines, folder):
    torch.set_num_threads(1)
    machines.enter("there")
    there = Nursery(folder)
    machines.enter("here")
    command = [sys.executable, "-I", hub.__file__, machines.hub]
    subprocess.run(command, timeout=30, check=True)
    tr.join("main", machines.hub, rpc_timeout=20)
    globals()[name].body(machines, there)
    assert elapsed(tr.leave) < 15


def owner_there(machines, there):
    owner = there.start("ps", machines.hub, rpc_timeout=20).joined()
    rpc.rpc_sync("ps", roles.serve_encoder)
    return owner


@on_two_machines
def test_calls_batches_killing_and_coming_back(machines, there):
    owner = owner_there(machines, there)
    stub = tr.connect("ps", zoo.Encoder, "encoder")
    created = tr.create("ps", zoo.Encoder, zoo.LinearEncoder)
    for _ in range(3):
        assert is_from(0, stub(X))
        assert is_from(0, created(X))
        assert len(stub.forward_many([(X,)] * 500)) == 500
        assert stub(torch.ones(1 << 17, 8)).shape == (1 << 17, 8)
    for _ in range(2):
        owner.kill()
        assert elapsed(until, lambda: roles.members() == ["main"]) < 5
        with pytest.raises(NotInGroupError):
            stub(X)
        owner = owner_there(machines, there)
        assert is_from(0, stub(X))
    owner.signal(signal.SIGTERM)
    assert elapsed(until, lambda: roles.members() == ["main"]) < 5


@on_two_machines
def test_a_firewall_lets_nothing_else_through(machines, there):
    owner_there(machines, there)
    rpc.rpc_sync("ps", listen, (19999, 20500))
    with socket.create_connection((machines.addresses["there"], 20500), timeout=5):
        pass
    with pytest.raises(TimeoutError):
        socket.create_connection((machines.addresses["there"], 19999), timeout=2)


_listening = []


def listen(*ports):
    _listening.extend(socket.create_server(("0.0.0.0", port)) for port in ports)


@on_two_machines
def test_a_cable_that_is_cut_for_a_moment_is_only_a_delay(machines, there):
    owner_there(machines, there)
    stub = tr.connect("ps", zoo.Encoder, "encoder")
    assert is_from(0, stub(X))
    machines.cut()
    threading.Timer(1.5, machines.mend).start()
    assert is_from(0, stub(X))
    assert roles.members() == ["main", "ps"]


@on_two_machines
def test_a_cable_that_is_cut_for_ten_seconds(machines, there):
    owner = owner_there(machines, there)
    stub = tr.connect("ps", zoo.Encoder, "encoder", timeout=2)
    patient = tr.connect("ps", Patient, "encoder", timeout=60)
    assert is_from(0, stub(X))
    began = time.monotonic()
    machines.cut()
    with pytest.raises(CallTimeoutError):
        stub(X)
    assert elapsed(until, lambda: roles.members() == ["main"]) < NOTICED
    with raises_within(1, NotInGroupError):
        stub(X)
    refused = there.start("other", machines.hub, timeout=2)
    until(lambda: refused.said() is not None)
    assert "GroupError: join 'other': no hub can be reached at" in refused.said()
    waiting = patient.forward_async(X)
    time.sleep(max(0.0, began + 10 - time.monotonic()))
    machines.mend()
    time.sleep(2)
    assert roles.members() == ["main"], "who was taken off has to leave, and join again"
    with pytest.raises(NotInGroupError):
        stub(X)
    owner.signal(signal.SIGTERM)
    until(owner.ended)
    owner_there(machines, there)
    assert is_from(0, stub(X))
    assert is_from(0, waiting.wait())


@on_two_machines
def test_a_cable_that_is_cut_for_good(machines, there):
    owner_there(machines, there)
    spawned = tr.spawn("local")
    rpc.rpc_sync("local", roles.serve_encoder)
    stub = tr.connect("ps", zoo.Encoder, "encoder", timeout=3)
    replicas = tr.connect(["ps", "local"], Patient, "encoder", timeout=20)
    calls = [stub.forward_async(X) for _ in range(3)]
    assert all(is_from(0, call.wait()) for call in calls)
    machines.cut()
    calls = [stub.forward_async(X) for _ in range(3)]
    for call in calls:
        with raises_within(5, WireError):
            call.wait()
    assert elapsed(until, lambda: roles.members() == ["local", "main"]) < NOTICED
    with pytest.raises(NotInGroupError):
        stub(X)
    assert is_from(0, replicas(X))
    with pytest.raises(GroupError, match="spawn 'local': .*the name is that of 'local'"):
        tr.spawn("local")
    spawned.terminate()
    spawned.wait(20)
