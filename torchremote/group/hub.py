"""The hub of a group: the process that knows who is in it, and that notices workers that crash.

It needs nothing but Python, so it starts at once. It carries no calls: these go from worker to worker, over torch's
RPC. `python -m torchremote hub` runs it, and so does a `join` without an address.

Note [The hub]
    Every worker keeps a TCP connection to the hub. The kernel of its machine breaks the connection when the process
    ends, however it ends, and answers the hub's probes while the process lives. Neither needs the worker's Python. So a
    worker that is busy or stopped is no lost one. When a machine or its network is lost, `SILENCE` passes without an
    answer. Either way the hub tells all others, once, and in the order in which things happened.

    A stopped worker to which the hub has sent more than the kernel holds, some thousands of comings and goings, counts
    as lost as well.

    A worker that joins says its name, and is told its number and who is there. It starts its agent, and says at which
    address that listens. The hub tells all others, and each of them says when it knows the newcomer; then the join is
    done. Many workers can join at the same time. No step holds anything that others wait for: whoever fails half-way
    breaks its connection, and is taken off like all others.

    A worker that does not say that it knows the newcomer is stopped, or is too busy to run Python. The newcomer waits
    for it at most for its own timeout. Then its join has failed, and the others are told that it left. A visitor, which
    comes to look or to call once, stays all the same: it is most wanted when something hangs.

    A process is in one group at a time. So when one says hello, an earlier connection of the same process has ended,
    or is left from a join that Ctrl-C ended, and the hub takes that one off at once.

    Messages are lines of JSON. A number is given to one worker only, ever: torch keeps the connection to a number, and
    does not connect to it again.

    A process has a second number, in distributed autograd, which it keeps when it joins another group. So another hub
    may have given the same one away. The hub chooses these numbers at random, so that this hardly ever happens, and
    refuses whoever brings one that another process of this group has, or had.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

GROUP_PROTOCOL: Final = 1
"""The number of the protocol between workers and hub."""
MOST_NUMBERS: Final = 32_767  # torch keeps them in 16 bits
SILENCE: Final = 4
"""Seconds without an answer after which a machine counts as lost."""
UNUSED: Final = 60.0
"""Seconds for which a hub that ends with its last worker waits for the first one."""
FIRST_WORD: Final = 10.0
"""Seconds in which whoever connects has to say hello."""
LONGEST_LINE: Final = 1 << 24
_HELLO: Final = {"name": str, "timeout": (int, float), "host": str, "pid": int, "since": str}
_MEMBER: Final = {"url": str, "maps": dict, "devices": list, "device_count": int}
"""The parts of these messages, with their classes."""

Message = dict[str, Any]


def watch_connection(connection: socket.socket) -> None:
    """Has the kernel find out whether the other end lives. A lost one breaks the connection within `SILENCE`."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, SILENCE - 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE * 1000)


def line_of(message: Message) -> bytes:
    """Writes a message as the line that is sent."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def _check(message: Message, parts: Mapping[str, Any]) -> None:
    """Raises KeyError or TypeError if a message does not have these parts. `parts`: their classes."""
    for part, kind in parts.items():
        if not isinstance(message[part], kind):
            raise TypeError(f"its {part} is {message[part]!r}")


def split_address(address: str) -> tuple[str, int]:
    """Reads "host:port". Raises ValueError for any other text."""
    host, colon, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
    if not colon or not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65_535 or not _may_be_host(host):
        raise ValueError(f"{address!r} is no address; write host:port, such as 10.0.0.1:29600")
    return host.strip("[]"), int(port)


def _may_be_host(host: str) -> bool:
    try:
        host.encode("idna")  # as Python does before it looks the name up
    except UnicodeError:
        return False
    return True


def written_address(host: str, port: int) -> str:
    """Writes an address as `split_address` reads it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Worker(asyncio.Protocol):
    """A worker's connection, from its first message on."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._buffer = b""
        self.transport: Any = None
        self.name = ""  # until its first message
        self.number = 0
        self.about: Message = {}
        self.member: Message | None = None  # what others have to know of it, from when its agent runs
        self.awaited: set[_Worker] = set()  # who has to say that it knows this one
        self.joined = False
        self.timer: asyncio.TimerHandle | None = None
        self.why = "its process ended, or its machine does not answer"

    # -- asyncio's part

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        watch_connection(transport.get_extra_info("socket"))
        self.timer = asyncio.get_running_loop().call_later(FIRST_WORD, self.transport.abort)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        try:
            if len(self._buffer) > LONGEST_LINE:
                raise ValueError("no message is that long")
            for line in lines:
                self._hub.take(self, json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:  # it is no worker of ours
            self.why = f"it sent what is no message: {error}"
            self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._hub.lose(self)

    # -- the hub's

    def send(self, message: Message) -> None:
        if not self.transport.is_closing():
            self.transport.write(line_of(message))

    def refuse(self, why: str, *, again: bool = False) -> None:
        """Refuses the join. `again`: it may be tried again."""
        self.send({"do": "refused", "why": why, "again": again})
        self.why = "its join failed"
        self.transport.close()

    @property
    def shown(self) -> str:
        about = self.about
        return f"{self.name!r} (process {about['pid']} on {about['host']}, since {about['since']})"


class Hub:
    """The state of a group. All of it changes on the thread of the event loop."""

    def __init__(self) -> None:
        self._workers: dict[str, _Worker] = {}  # by name, with those that are joining
        self._next = 1
        self._autograd: dict[int, str] = {}  # by number in distributed autograd: the process that has it, or had it
        self.when_empty: Callable[[], None] = lambda: None

    def take(self, worker: _Worker, message: Message) -> None:
        """Does what a worker asks."""
        match message["do"]:
            case "hello" if not worker.name:
                self._hello(worker, message)
            case "ready" if worker.name and worker.member is None:
                self._ready(worker, message)
            case "known":
                for other in self._workers.values():
                    if other.number == message["number"]:
                        self._settle(other, worker)
            case "leave":
                worker.why = "it left"
                worker.transport.close()
            case other:
                raise ValueError(f"{other!r}")

    def _hello(self, worker: _Worker, message: Message) -> None:
        if message["protocol"] != GROUP_PROTOCOL:
            worker.refuse(
                f"the hub speaks protocol {GROUP_PROTOCOL} of groups, and this process {message['protocol']}; run the "
                "same release of torchremote on both"
            )
            return
        _check(message, _HELLO)  # before anything changes
        process = str(message.get("process"))
        earlier = [other for other in self._workers.values() if other.about.get("process", other) == process]
        taken = self._workers.get(message["name"])
        if taken is not None and taken not in earlier:
            # On another machine it may be lost, which takes a while to notice.
            elsewhere = taken.about["host"] != message["host"]
            remedy = "choose another, or end that one, as `torchremote serve --replace` ends a `serve`"
            worker.refuse(f"the name is that of {taken.shown}; {remedy}", again=elsewhere)
            return
        if self._next > MOST_NUMBERS:
            worker.refuse(f"{MOST_NUMBERS} workers have joined, and torch has no more numbers; start another hub")
            return
        brought = message.get("autograd")
        if brought is not None and self._autograd.get(brought, process) != process:
            worker.refuse(
                f"another process of this group has the number {brought} in distributed autograd, which this one has "
                "since its first group: torch keeps it for the life of a process. Join from a new process"
            )
            return
        autograd = self._new_autograd_number() if brought is None else brought
        self._autograd[autograd] = process
        for other in earlier:
            other.why = "it joins again"
            self._take_off(other)
            other.transport.abort()
        worker.name, worker.about = message["name"], message
        worker.number, self._next = self._next, self._next + 1
        self._workers[worker.name] = worker
        known = [other.member for other in self._workers.values() if other.member is not None]
        worker.send({"do": "welcome", "number": worker.number, "autograd": autograd, "members": known})
        if worker.timer is not None:
            worker.timer.cancel()
        loop = asyncio.get_running_loop()
        worker.timer = loop.call_later(float(message["timeout"]), self._too_late, worker)

    def _new_autograd_number(self) -> int:
        while True:  # fewer workers join than there are numbers
            number = random.randint(1, MOST_NUMBERS)
            if number not in self._autograd:
                return number

    def _ready(self, worker: _Worker, message: Message) -> None:
        _check(message["member"], _MEMBER)
        worker.member = {**message["member"], "name": worker.name, "number": worker.number}
        worker.awaited = {other for other in self._workers.values() if other.member is not None} - {worker}
        self._tell({"do": "joined", "member": worker.member}, but=worker)
        self._settle(worker, None)

    def _settle(self, worker: _Worker, knows: _Worker | None) -> None:
        """Ends the join of `worker` if all others know it."""
        if knows is not None:
            worker.awaited.discard(knows)
        if not worker.awaited and not worker.joined and worker.member is not None:
            self._end_join(worker)

    def _end_join(self, worker: _Worker) -> None:
        worker.joined = True
        if worker.timer is not None:
            worker.timer.cancel()
        worker.send({"do": "done"})

    def _too_late(self, worker: _Worker) -> None:
        if worker.about.get("visits") and worker.member is not None:
            self._end_join(worker)
            return
        whom = ", ".join(sorted(other.shown for other in worker.awaited)) or "this process itself"
        worker.refuse(
            f"waited {worker.about['timeout']:g} s for {whom}: it is stopped, or too busy to run any Python; end it, "
            "or join with a longer timeout"
        )

    def lose(self, worker: _Worker) -> None:
        """Takes off a worker whose connection has ended."""
        if self._take_off(worker):
            self.end_if_empty()

    def _take_off(self, worker: _Worker) -> bool:
        """Takes a worker off. Returns False if it was before, or has not been one."""
        if worker.timer is not None:
            worker.timer.cancel()
        if self._workers.get(worker.name) is not worker:
            return False
        del self._workers[worker.name]
        for other in list(self._workers.values()):
            self._settle(other, worker)
        if worker.member is not None:
            self._tell({"do": "left", "name": worker.name, "number": worker.number, "why": worker.why})
        return True

    def end_if_empty(self) -> None:
        """Says that nobody is left, if so."""
        if not self._workers:
            self.when_empty()

    def _tell(self, message: Message, but: _Worker | None = None) -> None:
        for worker in self._workers.values():
            if worker is not but:
                worker.send(message)


async def _serve(listening: socket.socket, says: str | None) -> None:
    """Serves until it is told to end. `says` None: a hub for `join`, which also ends with its last worker."""
    loop, hub, ended = asyncio.get_running_loop(), Hub(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})  # whoever started it may block them
    server = await loop.create_server(lambda: _Worker(hub), sock=listening)
    if says is None:
        hub.when_empty = ended.set
        loop.call_later(UNUSED, hub.end_if_empty)
    else:
        print(says, flush=True)
    await ended.wait()
    server.close()


def run_hub(address: str, *, for_join: bool = False) -> None:
    """Runs a hub until it is told to end by SIGTERM or Ctrl-C. It prints where it listens.

    Args:
        address: "host:port" to listen on. The port 0 takes a free one.
        for_join: goes on in a process of its own once it listens, which ends also when the last worker has left, or
            when none comes within `UNUSED`.

    Raises:
        ValueError: `address` is no address.
        OSError: the hub cannot listen there.
    """
    host, port = split_address(address)
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    listening = socket.create_server((host, port), family=family, backlog=512)
    says: str | None = f"torchremote hub: listens on {written_address(*listening.getsockname()[:2])}"
    if for_join:
        print(says, flush=True)
        says = None
        if os.fork():
            return
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nowhere, stream)
    asyncio.run(_serve(listening, says))


if __name__ == "__main__":
    run_hub(sys.argv[1], for_join=True)  # by `join`, from this file alone: importing torch would take seconds
