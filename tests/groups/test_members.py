"""Workers of a group come, go, crash and come back."""

import asyncio
import contextlib
import io
import json
import logging
import os
import pathlib
import resource
import signal
import socket
import threading
import time

import pytest
import torch.distributed.rpc as rpc

import torchremote as tr
from torchremote import _torch
from torchremote.errors import GroupError, NotInitializedError
from torchremote.group import hub, membership, open_files
from torchremote.group import join as joining
from torchremote.group.hub import SILENCE, line_of, split_address

from ..waiting import stop, until
from . import roles
from .nursery import elapsed, in_a_group


@in_a_group()
def test_workers_come_and_go(nursery):
    nursery.join("one")
    nursery.join("two")
    assert roles.members() == ["main", "one", "two"]
    assert rpc.rpc_sync("one", roles.add, ("two",)) == 2
    assert rpc.rpc_sync("two", roles.add, ("main",)) == 2
    gone = nursery.join("three")
    gone.signal(signal.SIGTERM)
    for worker in ("one", "two"):
        until(lambda worker=worker: rpc.rpc_sync(worker, roles.members) == ["main", "one", "two"])
    nursery.join("three")
    assert rpc.rpc_sync("one", roles.add, ("three",)) == 2


@in_a_group()
def test_a_worker_that_was_killed_is_taken_off_and_comes_back(nursery):
    nursery.join("third")
    numbers = set()
    for _ in range(5):
        owner = nursery.join("ps")
        assert roles.add("ps") == rpc.rpc_sync("third", roles.add, ("ps",)) == 2
        numbers.add(rpc.get_worker_info("ps").id)
        owner.kill()
        for listed in (roles.members, lambda: rpc.rpc_sync("third", roles.members)):
            assert elapsed(until, lambda listed=listed: listed() == ["main", "third"]) < 5
    assert len(numbers) == 5


@in_a_group()
def test_workers_that_were_killed_leave_no_files_open(nursery):
    counts = []
    for _ in range(6):
        owner = nursery.join("ps")
        assert roles.add("ps") == 2
        owner.kill()
        until(lambda: roles.members() == ["main"])
        counts.append(len(os.listdir("/proc/self/fd")))
    assert max(counts[3:]) <= max(counts[:3])


@in_a_group()
def test_a_name_that_is_taken_is_refused_at_once(nursery):
    nursery.join("ps")
    second = nursery.start("ps", tr.group_address())
    assert elapsed(until, lambda: second.said() is not None) < 5
    assert "GroupError: join 'ps': the name is that of 'ps' (process" in second.said()
    assert roles.members() == ["main", "ps"]


@in_a_group()
def test_of_two_that_come_back_under_one_name_one_does(nursery):
    nursery.join("ps").kill()
    until(lambda: roles.members() == ["main"])
    both = [nursery.start("ps", tr.group_address()) for _ in range(2)]
    until(lambda: all(worker.said() is not None for worker in both))
    assert sorted(bool(worker.said()) for worker in both) == [False, True]
    assert roles.add("ps") == 2


def half_joined(*messages):
    """A connection to the hub of what said only this much."""
    connection = socket.create_connection(split_address(tr.group_address()))
    about = {"host": socket.gethostname(), "pid": 1, "since": "now", "timeout": 60}
    for message in messages:
        connection.sendall(line_of({**about, **message}))
    return connection


HELLO = {"do": "hello", "protocol": 1, "name": "ps"}
READY = {"do": "ready", "member": {"url": "uv://127.0.0.1:1", "maps": {}, "devices": [], "device_count": 0}}


@in_a_group()
def test_a_worker_that_dies_in_any_part_of_its_join_keeps_nothing(nursery):
    for messages in ([], [HELLO], [HELLO, READY]):
        connection = half_joined(*messages)
        if messages:
            assert json.loads(connection.makefile().readline())["do"] == "welcome"
        if len(messages) == 2:
            until(lambda: "ps" in roles.members())
        connection.close()
        until(lambda: roles.members() == ["main"])
        owner = nursery.join("ps")
        assert roles.add("ps") == 2
        owner.kill()
        until(lambda: roles.members() == ["main"])


@in_a_group()
def test_a_worker_that_stops_in_its_join_keeps_nobody_waiting(nursery):
    with half_joined(HELLO), half_joined({**HELLO, "name": "other"}):
        assert elapsed(nursery.join, "third") < 20
        refused = nursery.start("ps", tr.group_address())
        until(lambda: refused.said() is not None)
        assert "the name is that of 'ps' (process 1 on " in refused.said()
    nursery.join("ps")


@in_a_group()
def test_what_is_no_worker_does_not_hurt_the_hub(nursery):
    for text in (b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b'{"do": "hello"}\n', b'{"do": "no"}\n', b"\xff\n"):
        with socket.create_connection(split_address(tr.group_address())) as connection:
            connection.sendall(text)
            assert connection.recv(100) == b""
    for part in ("pid", "since", "timeout"):
        with half_joined({**HELLO, part: None}) as connection:
            assert connection.recv(100) == b""
    with half_joined(HELLO, {"do": "ready", "member": {**READY["member"], "maps": None}}):
        nursery.join("other")
    nursery.join("ps")


@in_a_group()
def test_a_join_waits_for_a_stopped_member_only_for_its_timeout_and_says_for_whom(nursery):
    stopped = nursery.join("sleeper")
    stopped.stop()
    late = nursery.start("ps", tr.group_address(), timeout=2)
    assert elapsed(until, lambda: late.said() is not None) < 6
    assert f"join 'ps': waited 2 s for 'sleeper' (process {stopped.pid} on " in late.said()
    assert late.said().endswith("; end it, or join with a longer timeout")
    until(lambda: roles.members() == ["main", "sleeper"])
    time.sleep(SILENCE + 1)  # longer than it takes to notice a crash
    assert roles.members() == ["main", "sleeper"], "a stopped worker is no lost one"
    patient = nursery.start("ps", tr.group_address(), timeout=60)
    stopped.signal(signal.SIGCONT)
    patient.joined()
    assert rpc.rpc_sync("sleeper", roles.add, ("ps",)) == 2
    assert rpc.rpc_sync("ps", roles.members) == ["main", "ps", "sleeper"]


@in_a_group()
def test_a_stopped_member_that_is_killed_is_taken_off(nursery):
    stopped = nursery.join("sleeper")
    stopped.stop()
    waiting = nursery.start("ps", tr.group_address(), timeout=60)
    stopped.kill()
    waiting.joined()
    until(lambda: roles.members() == ["main", "ps"])


def hub_process():
    """The hub that this process's group started."""
    port = f":{split_address(tr.group_address())[1]:04X} "
    lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()
    (inode,) = {line.split()[9] for line in lines if line.split()[1].endswith(port[:-1]) and " 0A " in line}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        if f"socket:[{inode}]" in links:
            return int(pid)
    raise AssertionError("no hub")


@in_a_group()
def test_without_a_hub_calls_go_on_and_a_join_says_what_is_wrong(nursery):
    nursery.join("ps")
    os.kill(hub_process(), signal.SIGKILL)
    late = nursery.start("late", tr.group_address())
    until(lambda: late.said() is not None)
    assert f"GroupError: join 'late': no hub can be reached at {tr.group_address()}" in late.said()
    assert "python -m torchremote hub" in late.said()
    assert roles.add("ps") == rpc.rpc_sync("ps", roles.add, ("main",)) == 2
    tr.leave()


@in_a_group()
def test_a_stopped_hub_is_said_to_be(nursery):
    stop(hub_process())
    late = nursery.start("late", tr.group_address(), timeout=1)
    until(lambda: late.said() is not None, seconds=20)
    assert "does not answer: is it a hub" in late.said()
    os.kill(hub_process(), signal.SIGCONT)
    nursery.join("ps")


@in_a_group()
def test_a_hub_that_join_started_ends_with_the_last_worker(nursery):
    hub, address = hub_process(), tr.group_address()
    other = nursery.join("other")
    tr.leave()
    os.kill(hub, 0)
    other.kill()
    until(lambda: not os.path.exists(f"/proc/{hub}"))
    with pytest.raises(GroupError, match="no hub can be reached at"):
        tr.join("main", address)


@in_a_group()
def test_thirty_workers_join_at_once(nursery):
    workers = [nursery.start(f"w{n}", tr.group_address(), threads=2) for n in range(30)]
    for worker in workers:
        worker.joined()
    everybody = sorted(["main", *(worker.name for worker in workers)])
    assert roles.members() == everybody
    for worker in workers:
        assert rpc.rpc_sync(worker.name, roles.members) == everybody
    for n, worker in enumerate(workers):
        assert rpc.rpc_sync(worker.name, roles.add, (f"w{(n + 1) % 30}",)) == 2


@in_a_group()
def test_who_leaves_lets_go_of_what_it_holds(nursery):
    nursery.join("ps")
    caller = nursery.join("caller")
    rpc.rpc_sync("caller", roles.hold_unnamed, ("ps",))
    until(lambda: rpc.rpc_sync("ps", roles.references) == 2)  # the stub's lease, and a result
    caller.signal(signal.SIGTERM)
    until(lambda: rpc.rpc_sync("ps", roles.references) == 0)


@in_a_group()
def test_shutdown_of_torch_leaves_the_group(nursery):
    nursery.join("ps")
    assert rpc.rpc_sync("ps", roles.members) == ["main", "ps"]
    address = tr.group_address()
    membership = joining._membership
    rpc.shutdown()
    with pytest.raises(NotInitializedError, match="in no group"):
        tr.group_address()
    until(lambda: not membership._thread.is_running)  # it has told the hub
    tr.join("main", address)
    assert roles.members() == ["main", "ps"]
    assert roles.add("ps") == 2


@in_a_group(name=None)
def test_what_cannot_join_says_why(nursery):
    for address in ("nowhere", "host:port", ":1", "127.0.0.1:99999"):
        with pytest.raises(GroupError, match="is no address; write host:port"):
            tr.join("main", address)
    with pytest.raises(GroupError, match=r"no hub can be reached at 127.0.0.1:1 \(Connection refused\)"):
        tr.join("main", "127.0.0.1:1")
    for name in ("", "a/b", "rank:1", "x" * 128, None):
        with pytest.raises(ValueError, match="letters, digits, _ and -"):
            tr.join(name)
    with pytest.raises(ValueError, match="give only one"):
        tr.join("main", rpc_backend_options=tr.rpc_options(), threads=3)
    for asked in (tr.leave, tr.group_address, lambda: tr.spawn("ps")):
        with pytest.raises(NotInitializedError, match=r"in no group; torchremote.join\(name\) joins one"):
            asked()
    tr.join("main", shared_memory=False)
    with pytest.raises(GroupError, match="RPC is running in this process; leave its group first"):
        tr.join("main")
    tr.leave()
    assert not _torch.rpc_running()


@in_a_group()
def test_workers_are_listed_while_others_come_and_go(nursery):
    agent = joining._membership._agent
    device_maps = {"main": {}}
    members = [_torch.AgentOfMember(f"w{n}", 100 + n, "uv://127.0.0.1:1", device_maps) for n in range(40)]
    over = threading.Event()
    listed = []

    def look():
        while not over.is_set():
            listed.append(len(_torch.worker_infos()))

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        for member in members:
            agent.add(member)
        for member in members:
            agent.take_off(member.name, member.number)
    over.set()
    for thread in threads:
        thread.join()
    assert min(listed) >= 1
    assert max(listed) <= 41
    assert roles.members() == ["main"]


@in_a_group(name=None)
def test_a_worker_does_not_run_out_of_files(nursery):
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, most))
    tr.join("main")
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(most, 65_536), most)

    said = io.StringIO()
    logging.getLogger("torchremote").addHandler(logging.StreamHandler(said))
    for limit, warns in ((1000, False), (60, True)):
        ps = nursery.join("ps", shared_memory=True)
        assert roles.add("ps") == 2
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
        ps.kill()
        until(lambda: roles.members() == ["main"])
        if warns:
            until(lambda: "files open, and may have 60" in said.getvalue(), seconds=20)
        else:
            assert not said.getvalue()
    said.truncate(0)
    held = []
    with contextlib.suppress(OSError):
        while True:
            held.append(os.dup(1))
    open_files.check_open_files()  # it has none to look with
    for one in held:
        os.close(one)
    assert "files open, and may have 60" in said.getvalue()


@in_a_group()
def test_a_worker_that_no_thread_can_take_off_is_reached_when_it_comes_back(nursery):
    ps = nursery.join("ps")
    start_thread = membership.start_thread

    def no_more(*given):
        membership.start_thread = start_thread
        raise RuntimeError("can't start new thread")

    membership.start_thread = no_more
    ps.kill()
    until(lambda: roles.members() == ["main"])
    nursery.join("ps")
    assert roles.add("ps") == 2


def test_who_says_nothing_is_not_kept(monkeypatch):
    monkeypatch.setattr(hub, "FIRST_WORD", 0.1)

    async def connect():
        server = await asyncio.get_running_loop().create_server(lambda: hub._Worker(hub.Hub()), "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 20) == b""
            writer.close()

    asyncio.run(connect())
