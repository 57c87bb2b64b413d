"""Joining, leaving and spawning where something is in the way."""

import contextlib
import io
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest
import torch
import torch.distributed.rpc as rpc

import torchremote as tr
from torchremote import _torch
from torchremote._torch import group as agents
from torchremote.errors import GroupError, NotInitializedError, PlaceError
from torchremote.group import hub, membership, network, spawned
from torchremote.group import join as joining
from torchremote.tools import cli

from .. import zoo
from ..forks import Fork
from ..waiting import until
from . import roles
from .nursery import in_a_group

# -- the interface

ADDRESSES = [network._address_of(name) for _, name in socket.if_nameindex()]
BESIDE_LOOPBACK = next((address for address in ADDRESSES if address and not address.startswith("127.")), None)
CHOSEN = "TP_SOCKET_IFNAME"


@pytest.mark.skipif(BESIDE_LOOPBACK is None or CHOSEN in os.environ, reason="there is no other interface to choose")
@in_a_group()
def test_a_second_group_on_another_interface_is_refused_as_torch_keeps_the_first(nursery):
    assert "://127.0.0.1:" in joining._membership._agent.own.url
    assert CHOSEN not in os.environ, "it was not the user's choice"
    command = [sys.executable, "-I", hub.__file__, f"{BESIDE_LOOPBACK}:0"]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=30, check=True).stdout
    beside = re.search(r"listens on (\S+)", said)[1]
    other = nursery.start("other", beside, rpc_timeout=20).joined()
    tr.leave()
    reason = rf"reaches the hub from {BESIDE_LOOPBACK}, but its RPC listens at uv://127.0.0.1:\d+, .*from a new process"
    with pytest.raises(GroupError, match=reason):
        tr.join("main", beside, shared_memory=False)
    assert not _torch.rpc_running()
    assert CHOSEN not in os.environ
    tr.join("main", shared_memory=False)
    other.kill()


@in_a_group(name=None)
def test_an_interface_that_the_user_chose_is_kept(nursery):
    os.environ[CHOSEN] = "lo"
    tr.join("main", shared_memory=False)
    assert os.environ[CHOSEN] == "lo"


# -- what is no hub, and no timeout

NO_HUBS = [
    (b"SSH-2.0-OpenSSH_9.6\r\n", r"is no hub: it answers b'SSH-2.0-OpenSSH_9.6\\r'; name a hub's address, or start"),
    (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is no hub: it answers b'HTTP/1.1 400"),
    (b"\xff\x00\n", r"is no hub: it answers b'\\xff"),
    (b"[1]\n", r"is no hub: it answers b'\[1\]'"),
    (b"[" * 100_000 + b"\n", r"is no hub: it answers b'\[{80}'\.\.\.;"),
    (b'{"welcome": 1}\n', "is no hub: it answers .*welcome"),
    (b'{"do": "welcome"}\n', "is no hub: it answers .*welcome"),
    (b"x" * (hub.LONGEST_LINE + (1 << 20)), "is no hub: it answers b'xxx"),
    (b"", "ended the connection, and did not answer as a hub does"),
]


@contextlib.contextmanager
def answering(text):
    """The address of what reads something, says this much, and ends the connection."""

    def answer():
        with contextlib.suppress(OSError):  # the test is over, or the other end has heard enough
            while True:
                connection = listening.accept()[0]
                with connection, contextlib.suppress(OSError):
                    connection.recv(1 << 16)
                    connection.sendall(text)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=answer, daemon=True).start()
        yield hub.written_address(*listening.getsockname())
        listening.shutdown(socket.SHUT_RDWR)


@in_a_group(name=None)
def test_what_is_no_hub_is_said_to_be_none(nursery):
    for text, reason in NO_HUBS:
        with answering(text) as address:
            with pytest.raises(GroupError, match=f"join 'main': what listens at {address} {reason}"):
                tr.join("main", address, timeout=30)
            assert not _torch.rpc_running()
            assert said_by("ls", "--address", address).startswith("torchremote: join 'cli-")


def said_by(*command):
    """Returns what a command that fails says on standard error."""
    with contextlib.redirect_stderr(io.StringIO()) as said:
        assert cli.main(list(command)) == 1
    return said.getvalue()


@in_a_group(name=None)
def test_what_goes_on_without_a_message_is_left_at_the_deadline(nursery):
    def drip():
        connection = listening.accept()[0]
        with connection, contextlib.suppress(OSError):
            while True:
                connection.sendall(b"x")
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=drip, daemon=True).start()
        with pytest.raises(GroupError, match="does not answer: is it a hub"):
            tr.join("main", hub.written_address(*listening.getsockname()), timeout=0.5)


@in_a_group(name=None)
def test_what_is_no_address_is_refused(nursery):
    for address in (5, b"127.0.0.1:1", "nowhere"):
        with pytest.raises(GroupError, match="is no address; write host:port"):
            tr.join("main", address)


@in_a_group(name=None)
def test_what_is_no_timeout_is_refused(nursery):
    for timeout in (-1, 0, None, float("inf"), float("nan"), True, "3"):
        with pytest.raises(ValueError, match=f"timeout={timeout!r}: a number of seconds is wanted, more than 0"):
            tr.join("main", timeout=timeout)
    tr.join("main", timeout=1e12, shared_memory=False)
    tr.leave(timeout=np.int64(1))
    tr.join("main", timeout=np.int64(60), shared_memory=False)
    for timeout in (0, None, float("inf")):
        with pytest.raises(ValueError, match=f"timeout={timeout!r}: a number of seconds is wanted, more than 0"):
            tr.spawn("ps", timeout=timeout)
    for timeout in (-1, None, float("nan"), "3"):
        with pytest.raises(ValueError, match=f"timeout={timeout!r}: a number of seconds is wanted, 0 or more"):
            tr.leave(timeout=timeout)
    assert roles.members() == ["main"]
    tr.leave(timeout=0)


@in_a_group(name=None)
def test_a_hub_that_does_not_start_in_time_is_said_to(nursery):
    joining.hub = types.SimpleNamespace(__file__=sleeping_program())
    joining._STARTING = 0.5
    with pytest.raises(GroupError, match="join 'main': the group's hub did not say within 0.5 s where it listens"):
        tr.join("main")


def sleeping_program():
    path = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"sleeping-{os.getpid()}.py")
    with open(path, "w") as file:
        file.write(f"import os, time\nos.unlink({path!r})\ntime.sleep(100)\n")
    return path


# -- Ctrl-C


@in_a_group()
def test_ctrl_c_does_not_keep_a_process_from_leaving(nursery):
    nursery.join("ps")
    address = tr.group_address()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stub = tr.create("ps", zoo.Sleeper, zoo.SlowLoop)
    held = rpc.rpc_async("ps", time.sleep, args=(60,), timeout=0)
    membership = joining._membership

    def interrupt():
        until(lambda: membership._leaving)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        tr.leave(timeout=60)
    assert not _torch.rpc_running()
    for asked in (tr.leave, tr.group_address):
        with pytest.raises(NotInitializedError):
            asked()
    tr.join("main", address, shared_memory=False)
    assert roles.members() == ["main", "ps"]
    del stub, held


@in_a_group()
def test_a_second_ctrl_c_does_not_either(nursery):
    def interrupted(seconds):
        raise KeyboardInterrupt

    thread = joining._membership._thread
    thread.end = interrupted
    with pytest.raises(KeyboardInterrupt):
        tr.leave()
    assert not _torch.rpc_running()
    del thread.end
    tr.join("main", shared_memory=False)


@in_a_group(name=None)
def test_ctrl_c_in_a_join_leaves_no_rpc_behind(nursery):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    start = agents._api._init_rpc_states

    def interrupted(agent):
        start(agent)
        signal.raise_signal(signal.SIGINT)

    agents._api._init_rpc_states = interrupted
    with pytest.raises(KeyboardInterrupt):
        tr.join("main", shared_memory=False)
    assert not _torch.rpc_running()
    agents._api._init_rpc_states = start
    tr.join("main", shared_memory=False)
    assert roles.members() == ["main"]


@in_a_group(name=None)
def test_a_handler_that_leaves_ends_a_join(nursery):
    start = membership.OneThread.start

    def interrupted(thread):
        membership.OneThread.start = start
        signal.raise_signal(signal.SIGALRM)
        start(thread)

    signal.signal(signal.SIGALRM, lambda *_: tr.leave(timeout=0))
    membership.OneThread.start = interrupted
    with pytest.raises(GroupError, match="join 'main': this process left the group while it joined"):
        tr.join("main", shared_memory=False)
    assert not _torch.rpc_running()
    tr.join("main", shared_memory=False)
    assert roles.members() == ["main"]


@in_a_group(name=None)
def test_ctrl_c_just_after_a_join_leaves_a_membership(nursery):
    class Interrupted(joining.Membership):
        def join(self, *given):
            super().join(*given)
            raise KeyboardInterrupt

    joining.Membership = Interrupted
    with pytest.raises(KeyboardInterrupt):
        tr.join("main", shared_memory=False)
    tr.leave()
    assert not _torch.rpc_running()


@in_a_group()
def test_leaving_and_joining_in_a_call_are_refused_as_they_would_wait_for_it(nursery):
    nursery.join("ps")
    for asked in (tr.leave, tr.join):
        with pytest.raises(Exception, match=f"{asked.__name__}: called in a call .* on a thread of your own"):
            rpc.rpc_sync("ps", asked, args=() if asked is tr.leave else ("other",))
    assert roles.add("ps") == 2


@in_a_group(name=None)
def test_after_a_shutdown_the_same_name_joins_at_once(nursery):
    where = joining._start_hub("main")
    nursery.start("ps", where, rpc_timeout=20).joined()
    for _ in range(3):
        tr.join("main", where, shared_memory=False)
        assert roles.members() == ["main", "ps"]
        rpc.shutdown()
    assert not _torch.rpc_running()


@in_a_group()
def test_a_port_that_a_shutdown_closes_is_no_error(nursery):
    membership, said = joining._membership, []
    handler = logging.Handler()
    handler.emit = said.append
    logging.getLogger("torchremote").addHandler(handler)
    membership._listener = types.SimpleNamespace(is_closed=lambda: True)
    membership._check_listener()
    assert not said, "it may be closed for the moment before RPC has ended"
    until(lambda: said)  # it stays closed, and RPC goes on
    assert "has closed the port" in said[0].getMessage()


# -- distributed autograd


def greeted(where, **said):
    """Says hello at a hub, as a process does. Returns the connection and the answer."""
    connection = socket.create_connection(hub.split_address(where))
    about = {"protocol": hub.GROUP_PROTOCOL, "timeout": 60, "visits": False, "host": "h", "pid": 1, "since": "now"}
    connection.sendall(hub.line_of({"do": "hello", **about, **said}))
    return connection, json.loads(connection.makefile().readline())


@in_a_group()
def test_no_two_processes_of_a_group_have_the_same_number_in_distributed_autograd(nursery):
    ours, first = _torch.autograd_number(), tr.group_address()
    assert ours is not None
    refused, answer = greeted(first, name="other", process="other", autograd=ours)
    assert answer["do"] == "refused"
    assert f"has the number {ours} in distributed autograd" in answer["why"]
    refused.close()
    held = nursery.join("ps")  # so that the hub goes on
    tr.leave()
    tr.join("main", first, shared_memory=False)  # it is the same process
    assert _torch.autograd_number() == ours
    tr.leave()
    held.kill()

    second = joining._start_hub("main")
    connection, answer = greeted(second, name="other", process="other", autograd=ours)
    assert (answer["do"], answer["autograd"]) == ("welcome", ours)
    with pytest.raises(GroupError, match=f"has the number {ours} in distributed autograd.* from a new process"):
        tr.join("main", second, shared_memory=False)
    assert not _torch.rpc_running()
    connection.close()


def test_a_hub_gives_new_processes_numbers_that_nobody_brought():
    numbers = hub.Hub()
    numbers._autograd = dict.fromkeys(range(1, hub.MOST_NUMBERS), "somebody")
    assert numbers._new_autograd_number() == hub.MOST_NUMBERS


# -- device maps


@in_a_group()
def test_device_maps_are_not_lost_where_two_threads_change_the_list(nursery):
    agent = joining._membership._agent
    cpu, gpu = torch.device("cpu"), torch.device("cuda:0")
    late = _torch.AgentOfMember("late", 99, "uv://127.0.0.1:1", {"main": {gpu: cpu}})
    told, looking = [], threading.Event()
    reverse_maps = agent._reverse_maps

    def look_slowly():
        maps = reverse_maps()
        if threading.current_thread().name == "slow":
            looking.set()
            adding.join(1)  # the other thread is done by then, or waits
        return maps

    agent._reverse_maps = look_slowly
    agent._devices = list  # torch would look for the device
    agents.update_workers = lambda _, info, devices, reverse, joins: told.append((info.name, reverse))
    slow = threading.Thread(target=agent.take_off, args=("early", 98), name="slow")
    adding = threading.Thread(target=lambda: looking.wait() and agent.add(late))
    for thread in (adding, slow):
        thread.start()
    for thread in (adding, slow):
        thread.join()
    assert told == [("early", {}), ("late", {"late": {cpu: gpu}})]


# -- spawned workers


@in_a_group(timeout=100)
def test_spawn_does_not_wait_for_whoever_else_holds_its_pipe(nursery):
    pipe, held = os.pipe, []

    def pipe_that_another_holds():
        os.pipe = pipe  # Popen makes one, too
        reading, writing = pipe()
        held.append(os.dup(writing))  # as a process does that another thread forked at this moment
        return reading, writing

    os.pipe = pipe_that_another_holds
    ps = tr.spawn("ps", shared_memory=False, threads=4)
    os.pipe = pipe_that_another_holds
    with pytest.raises(GroupError, match="spawn 'ps': the name is that of 'ps'"):
        tr.spawn("ps")
    sys.executable = shutil.which("true")
    os.pipe = pipe_that_another_holds
    with pytest.raises(GroupError, match="spawn 'next': the process ended before it had joined"):
        tr.spawn("next")
    assert len(held) == 3
    ps.kill()
    ps.wait()


def test_a_signal_at_any_moment_ends_an_owner(tmp_path):
    output = tmp_path / "output"
    process = Fork(own_and_be_told_while_waiting, output=output)
    try:
        assert process.wait(60) == 0, output.read_text()
    finally:
        process.kill()
        process.wait()
    assert output.read_text() == '"joined"\nleft\n'


def own_and_be_told_while_waiting():
    spawned.join = lambda **asked: None
    spawned.leave = lambda timeout: print("left", flush=True)
    send_in_wait_of("main", signal.SIGTERM)
    sys.argv = ["owner", str(os.dup(1))]
    spawned.main({"join": {}, "parent": os.getppid()})


def send_in_wait_of(function, number):
    """Has this process get a signal once, at the worst moment of a function's next wait."""
    told = []

    def sending(wait):
        def sends(*args):
            frame, callers = sys._getframe(1), []
            while frame is not None:
                callers.append((frame.f_globals["__name__"].split(".")[0], frame.f_code.co_name))
                frame = frame.f_back
            here = threading.current_thread() is threading.main_thread()
            if here and not told and ("torchremote", function) in callers[:2]:
                told.append(number)
                os.kill(os.getpid(), number)
            return wait(*args)

        return sends

    threading.Condition.wait = sending(threading.Condition.wait)  # holds the lock
    time.sleep = sending(time.sleep)


@in_a_group(name=None)
def test_a_group_that_init_rpc_began_is_said_to_be(nursery):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = rpc.TensorPipeRpcBackendOptions(init_method=f"tcp://127.0.0.1:{port}")
    rpc.init_rpc("me", rank=0, world_size=1, rpc_backend_options=options)
    began = "this process's group was begun with init_rpc, .* end it with rpc.shutdown"
    for ask in (lambda: tr.spawn("x"), tr.leave, tr.group_address, lambda: tr.join("x")):
        with pytest.raises(GroupError, match=began):
            ask()
    with pytest.raises(PlaceError, match="there is no worker 'x'.*nobody else can join"):
        tr.connect(["me", "x"], zoo.Encoder, "encoder")
    rpc.shutdown()
