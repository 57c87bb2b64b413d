"""Owners that are spawned, hubs of their own, and processes that end in all ways."""

import gc
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.distributed.rpc as rpc

import torchremote as tr
from torchremote import _torch
from torchremote.errors import GroupError, NotInitializedError, WireError
from torchremote.group import join, processes
from torchremote.tools import cli

from .. import zoo
from ..waiting import until
from . import roles
from .nursery import in_a_group


def running(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@in_a_group(timeout=150)
def test_a_spawned_worker_serves_and_ends_as_it_is_told(nursery):
    ps = tr.spawn("ps", shared_memory=False, threads=4)
    assert re.fullmatch(r"<spawned worker 'ps', process \d+>", repr(ps))
    assert rpc.rpc_sync("ps", os.getpid) == ps.pid
    assert os.getsid(ps.pid) == ps.pid
    assert roles.members() == ["main", "ps"]
    stub = tr.create("ps", zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": 0})
    assert torch.equal(stub(torch.ones(2, 8)), roles.expected(torch.ones(2, 8)))
    with pytest.raises(GroupError, match=f"\\Aspawn 'ps': the name is that of 'ps' .process {ps.pid} on "):
        tr.spawn("ps")
    with pytest.raises(TimeoutError, match="did not end within 0.1 s"):
        ps.wait(0.1)
    assert ps.poll() is None
    ps.terminate()
    until(lambda: ps.poll() is not None, seconds=20)
    assert ps.poll() == ps.wait(20) == 0
    until(lambda: roles.members() == ["main"])
    with pytest.raises(TypeError, match="rpc_options has no argument nothing"):
        tr.spawn("ps", nothing=3)
    with pytest.raises(ValueError, match="name='p s': letters, digits"):
        tr.spawn("p s")
    with pytest.raises(GroupError, match="spawn 'ps': .*intraop_threads='many': a positive number of threads"):
        tr.spawn("ps", intraop_threads="many")
    tr.leave()
    with pytest.raises(NotInitializedError, match="spawn: this process is in no group; torchremote.join"):
        tr.spawn("ps")


@in_a_group(timeout=150)
def test_spawned_workers_that_have_ended_are_forgotten(nursery):
    ended = tr.spawn("ps", shared_memory=False, threads=4)
    ended.kill()
    ended.wait(20)
    until(lambda: roles.members() == ["main"])
    ps = tr.spawn("ps", shared_memory=False, threads=4)
    assert [process.pid for process in processes.may_run] == [ps.pid]


@in_a_group(timeout=150)
def test_a_spawned_worker_that_is_told_to_end_does_not_wait_for_a_call_for_ever(nursery):
    ps = tr.spawn("ps", shared_memory=False, threads=4)
    stub = tr.create("ps", zoo.Sleeper, zoo.SlowLoop, timeout=200)
    call = stub.forward_async(torch.ones(1), 10**9)
    until(lambda: tr.stats("ps").running > 1)
    ps.terminate()
    assert ps.wait(60) == 1
    with pytest.raises(WireError):
        call.wait()


PARENT = """
import sys, time, torchremote as tr
tr.join("parent", sys.argv[1], shared_memory=False)
child = tr.spawn("child", shared_memory=False, threads=4)
print(child.pid, flush=True)
time.sleep(100)
"""


@in_a_group(timeout=150)
def test_a_spawned_worker_ends_with_its_parent(nursery):
    command = [sys.executable, "-c", PARENT, tr.group_address()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        assert roles.members() == ["child", "main", "parent"]
        parent.kill()
    until(lambda: roles.members() == ["main"])
    until(lambda: not running(child))


ENDING = """
import sys, torch, torchremote as tr
from tests import zoo
tr.join("caller", sys.argv[1], shared_memory=False)
stub = tr.create("ps", zoo.Encoder, zoo.LinearEncoder)
futures = [stub.forward_async(torch.ones(2, 8)) for _ in range(10)]
print(stub(torch.ones(2, 8)).shape)
if sys.argv[2] == "raise":
    raise SystemExit(3)
"""


@in_a_group(timeout=150)
def test_a_caller_that_ends_without_leaving_keeps_nobody(nursery):
    nursery.join("ps")
    for how, status in (("end", 0), ("raise", 3)):
        command = [sys.executable, "-W", "ignore", "-c", ENDING, tr.group_address(), how]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == status, ended.stderr
        assert ended.stdout == "torch.Size([2, 8])\n"
        assert "Traceback" not in ended.stderr
        until(lambda: roles.members() == ["main", "ps"])
        assert roles.add("ps") == 2
    until(lambda: not tr.stats("ps").modules, seconds=30)  # what it created goes with it


@in_a_group()
def test_who_leaves_lets_its_calls_end(nursery):
    nursery.join("ps")
    stub = tr.create("ps", zoo.Sleeper, zoo.SlowLoop)
    call = stub.forward_async(torch.ones(1), 100_000)
    tr.leave()
    assert call.done()
    assert call.value() == 100_001


def slow_to_make():
    time.sleep(10)
    return zoo.SlowLoop()


def ending_while_calls_run(nursery, end):
    nursery.join("ps")
    stub = tr.create("ps", zoo.Sleeper, zoo.SlowLoop)
    with ThreadPoolExecutor() as threads:
        call = threads.submit(stub, torch.ones(1), 10_000_000)
        made = threads.submit(tr.create, "ps", zoo.Sleeper, slow_to_make)
        time.sleep(1.0)
        end()
        own = "this process left its group, or ended RPC,"
        with pytest.raises(
            WireError, match=f"\\ASleeper.forward on ps: {own} while the call ran; whether it ran is not"
        ):
            call.result(20)
        with pytest.raises(
            WireError, match=f"\\ASleeper on ps: {own} before it got the answer; whether it was done is"
        ):
            made.result(20)


@in_a_group()
def test_who_leaves_while_calls_run_is_not_told_that_their_owner_was_lost(nursery):
    ending_while_calls_run(nursery, lambda: tr.leave(timeout=0.5))


@in_a_group()
def test_who_ends_rpc_while_calls_run_is_not_told_that_their_owner_was_lost(nursery):
    ending_while_calls_run(nursery, lambda: rpc.shutdown(graceful=False))


@in_a_group()
def test_a_process_that_left_can_join_again(nursery):
    nursery.join("ps")
    address = tr.group_address()
    for _ in range(3):
        stub = tr.create("ps", zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": 0})
        assert torch.equal(stub(torch.ones(2, 8)), roles.expected(torch.ones(2, 8)))
        tr.leave()
        tr.join("main", address, shared_memory=False)
        assert roles.members() == ["main", "ps"]
    until(lambda: not tr.stats("ps").modules, seconds=30)  # what it held when it left


def test_a_hub_says_where_it_listens_and_ends_when_told():
    command = [sys.executable, "-W", "ignore", "-m", "torchremote", "hub", "--address", "127.0.0.1:0"]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # as those do who wait for it with `sigwait`
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as hub:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        try:
            said = hub.stdout.readline()
            assert re.fullmatch(r"torchremote hub: listens on 127\.0\.0\.1:\d+\n", said)
            hub.send_signal(signal.SIGTERM)
            assert hub.wait(10) == 0
        finally:
            hub.kill()


def test_a_hub_that_cannot_listen_says_why(capsys):
    assert cli.main(["hub", "--address", "192.0.2.1:29600"]) == 1
    assert "hub: cannot listen on 192.0.2.1:29600: Cannot assign requested address" in capsys.readouterr().err


@in_a_group()
def test_a_forked_process_does_not_keep_its_parents_place(nursery):
    ps = nursery.join("ps")
    forked = rpc.rpc_sync("ps", fork_a_sleeper)
    ps.kill()
    start = time.monotonic()
    until(lambda: roles.members() == ["main"])
    assert time.monotonic() - start < 5
    os.kill(forked, signal.SIGKILL)


def fork_a_sleeper():
    """Forks a process that outlives its parent by a while; its id."""
    pid = os.fork()
    if pid == 0:
        time.sleep(30)
        os._exit(0)
    return pid


@in_a_group(name=None)
def test_device_maps_are_told_and_checked(nursery):
    def options(devices):
        made = tr.rpc_options(shared_memory=False)
        made.set_device_map("ps", devices)
        return made

    with pytest.raises(GroupError, match="join 'main': its agent cannot start with these options: .*invalid indices"):
        tr.join("main", rpc_backend_options=options({"cuda:7": "cuda:7"}))
    assert not _torch.rpc_running()
    tr.join("main", rpc_backend_options=options({"cpu": "cpu"}))
    nursery.join("ps")
    assert rpc.rpc_sync("ps", reverse_maps) == {"main": {torch.device("cpu"): torch.device("cpu")}}
    stub = tr.create("ps", zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": 0})
    assert torch.equal(stub(torch.ones(2, 8)), roles.expected(torch.ones(2, 8)))


def reverse_maps():
    return join._membership._agent._reverse_maps()


@in_a_group()
def test_agents_know_the_device_maps_of_others(nursery):
    # Maps of CUDA devices are checked against the devices of the machine, so the agent is asked itself.
    agent = join._membership._agent
    cpu, gpu = torch.device("cpu"), torch.device("cuda:0")
    agent._others["far"] = _torch.AgentOfMember("far", 99, "", {"main": {gpu: cpu}})
    assert agent._reverse_maps() == {"far": {cpu: gpu}}
    nursery.join("ps").kill()
    until(lambda: roles.members() == ["main"])
    assert agent._reverse_maps() == {"far": {cpu: gpu}}, "a worker that goes takes only its own map along"


@in_a_group(timeout=150)
def test_who_blocks_sigterm_to_wait_for_it_can_end_a_spawned_worker(nursery):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    ps = tr.spawn("ps", shared_memory=False, threads=4)
    ps.terminate()
    assert ps.wait(20) == 0


@in_a_group(shared_memory=True)
def test_who_left_keeps_no_files(nursery):
    gc.disable()  # they go without it
    nursery.join("other")
    address, files = tr.group_address(), []
    for _ in range(4):
        tr.leave()
        tr.join("main", address)
        files.append(len(os.listdir("/proc/self/fd")))
    assert files == files[:1] * 4
