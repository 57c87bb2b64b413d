"""Keeps a worker's part of the group: its connection to the hub, and its agent's list of the others.

Note [Lost workers]
    When the hub says that a worker left or crashed, this happens at every other one: stubs of modules with a name stop
    calling it, and look for their module before their next call (caller/finding/follow.py). After `LAST_CALLS`, the
    worker is taken off the agent's list. Calls that are in the air meanwhile end with torch's own error, or with their
    timeout. If another process comes back under the name, it is put on the list after the old one was taken off.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import torch
from torch.distributed.rpc import TensorPipeRpcBackendOptions

from .. import _torch
from ..caller.messages import lost_workers
from ..errors import GroupError
from ..threads import OneThread, at_work, start_thread
from .connection import HubConnection, join_error
from .hub import Message
from .listener import Listener
from .network import listening_at
from .open_files import check_open_files

LAST_CALLS: Final = 0.25
"""Seconds between the last call that our stubs send to a lost worker and the worker's removal from torch's list."""
KEPT: Final = 5.0
"""Seconds for which memory that torch freed is kept: see _torch/group.py, Note [Taking a worker off]."""
_LOOK: Final = 1.0  # seconds between two looks whether rpc.shutdown() ended the agent
_STEP: Final = 0.1  # seconds between two looks whether a handler of a signal has left while `join` waits
_LETTING_GO: Final = 1.0  # seconds that letting go of references may take
MARGIN: Final = 5.0
"""Seconds that the hub has beyond a join's timeout, to say who kept it waiting."""
LONGEST_END: Final = 5.0
"""Seconds for which the end of a membership waits for the thread that reads from the hub."""

_log = logging.getLogger("torchremote")


class Membership:
    """This process's place in a group."""

    def __init__(self, name: str, connection: HubConnection) -> None:
        """Makes the place of the worker `name`. `join` takes it.

        Args:
            connection: the one to the hub, which has welcomed the worker.
        """
        self._name, self._connection = name, connection
        self.address = ""
        self._leaving = self._has_lost = False
        self._leavers: dict[str, threading.Event] = {}  # by name: set when the worker is taken off
        self._changing = threading.Lock()  # of these
        self._agent: _torch.GroupAgent | None = None
        self._listener: Listener | None = None
        self._deaf_since = math.inf  # when the port was seen to be closed
        self._thread = OneThread(self._listen_and_settle, "torchremote-group")
        self._is_settled = False
        self._settling = threading.Lock()  # is held until it is. An Event takes a lock in Python: see `start_thread`
        self._settling.acquire()
        self._refused: str | None = None

    def join(self, welcome: Message, options: TensorPipeRpcBackendOptions, deadline: float) -> None:
        """Joins the group. Raises GroupError if that fails; then nothing is left of it.

        Args:
            welcome: that of the hub.
            deadline: when the hub has to have said that the others know this worker, as `time.monotonic` has it.
        """
        try:
            self.address = self._connection.address
            self._join(welcome, options, deadline)
        except BaseException as error:
            self.end()
            if isinstance(error, RuntimeError) and not isinstance(error, GroupError):  # as of a thread
                raise self._error(str(error)) from error
            raise

    # -- joining

    def _join(self, welcome: Message, options: TensorPipeRpcBackendOptions, deadline: float) -> None:
        """Starts the agent, and waits until the others know this worker. Raises GroupError if they do not in time."""
        others = [_from_message(known) for known in welcome["members"]]
        here = self._connection.own_host
        try:
            with listening_at(here) as chosen:
                agent = self._agent = _torch.GroupAgent(self._name, welcome["number"], welcome["autograd"], options)
                agent.start()  # only now: `end` stops it, also if Ctrl-C ends this
            agent.check_device_maps(others)
        except (ValueError, RuntimeError) as error:
            raise self._error(f"its agent cannot start with these options: {error}") from error
        if chosen:
            self._check_address(here, agent.own.url)
        lost_workers.forget_all()
        for other in others:
            agent.add(other)
        self._connection.send({"do": "ready", "member": _as_message(agent.own)})
        self._thread.start()
        while not self._settling.acquire(timeout=min(_STEP, max(0.0, deadline - time.monotonic()))):
            if self._leaving or time.monotonic() >= deadline:
                break
        if self._leaving:
            raise self._error("this process left the group while it joined")
        if not self._is_settled:
            raise self._error(
                f"the hub at {self.address} does not answer: is it stopped? Have it go on, or start another one"
            )
        if self._refused is not None:
            raise self._error(self._refused)

    def _error(self, what: str) -> GroupError:
        return join_error(self._name, what)

    def _check_address(self, here: str, url: str) -> None:
        """Raises GroupError if others may not reach the agent's `url`. `here`: from where this one reaches the hub."""
        # torch looks for the address once in the life of a process. Workers of one machine reach all its addresses.
        if f"://{here}:" not in url and not ipaddress.ip_address(here).is_loopback:
            raise self._error(
                f"this process reaches the hub from {here}, but its RPC listens at {url}, where other workers may not "
                "reach it: torch keeps the address of the first group of a process. Join from a new process, or set "
                "TP_SOCKET_IFNAME to this machine's interface to the other workers before the first group"
            )

    # -- the connection

    def _listen_and_settle(self) -> None:
        try:
            self._listen()
        finally:
            self._refused = self._refused or "the hub ended the connection"
            self._settle()
            self._connection.close()

    def _settle(self) -> None:
        """Ends the waiting of `join`. Only the thread that listens calls it."""
        if not self._is_settled:
            self._is_settled = True
            self._settling.release()

    def _listen(self) -> None:
        """Reads what the hub tells, until the connection or the agent ends."""
        agent = self._agent
        assert agent is not None
        self._listener = Listener(agent.own.url)  # here, where no handler of a signal ends it half-way
        self._connection.look_every(_LOOK)
        while True:
            self._check_listener()
            try:
                message = self._connection.read()
            except TimeoutError:
                if agent.current:
                    continue
                self._connection.send({"do": "leave"})  # rpc.shutdown() was called
                break
            except ValueError as error:
                _log.error("torchremote: the hub at %s sends what is no message: %s", self.address, error)
                break
            if message is None:
                break
            try:
                self._take(agent, message)
            except Exception:
                _log.exception("torchremote: this worker goes on without a message of the hub")
        if self._is_settled and not self._leaving and agent.current:
            _log.warning(
                "torchremote: the group's hub at %s is gone, or cannot be reached. Calls go on. If it is gone, nobody "
                "can join, and crashed workers are not noticed: start all workers again with a new hub when it suits. "
                "If it lives, it has taken this worker off: leave and join again",
                self.address,
            )

    def _check_listener(self) -> None:
        """Logs an error, once, when new workers cannot connect any more: see listener.py, Note [Deaf workers]."""
        if self._listener is None or self._leaving or not self.current or not self._listener.is_closed():
            self._deaf_since = math.inf
            return
        # rpc.shutdown() closes the port a little before the agent is not the current one any more.
        self._deaf_since = min(self._deaf_since, time.monotonic())
        if time.monotonic() - self._deaf_since < _LOOK:
            return
        self._listener = None
        _log.error(
            "torchremote: torch has closed the port at which %r takes connections, because one ended just as it began: "
            "its process ended, or it was a port scan. Workers that have called this one go on. All others, and those "
            "that join from now on, cannot: their calls fail with 'connection refused'. Start this worker again when "
            "it suits; stubs of modules with a name follow",
            self._name,
        )

    def _take(self, agent: _torch.GroupAgent, message: Message) -> None:
        """Does what the hub says."""
        match message["do"]:
            case "joined":
                self._add(agent, message["member"])
            case "left":
                self._lose(agent, message["name"], message["number"])
            case "done":
                self._settle()
            case "refused":
                self._refused = message["why"]
                self._settle()

    def _add(self, agent: _torch.GroupAgent, member: Message) -> None:
        with self._changing:
            taken_off = self._leavers.pop(member["name"], None)
        if taken_off is not None:
            taken_off.wait()
        agent.add(_from_message(member))  # its join has checked the device maps
        lost_workers.worker_is_back(member["name"])
        self._connection.send({"do": "known", "number": member["number"]})

    def _lose(self, agent: _torch.GroupAgent, name: str, number: int) -> None:
        """Takes a worker off: see Note [Lost workers]."""
        self._has_lost = True
        lost_workers.lose_worker(name)
        taken_off = threading.Event()
        with self._changing:
            self._leavers[name] = taken_off

        def take_off() -> None:
            try:
                with at_work():
                    agent.close_connection(name, LAST_CALLS)
                time.sleep(LAST_CALLS)
                with at_work():
                    agent.take_off(name, number)
            finally:
                taken_off.set()
            check_open_files()
            time.sleep(KEPT)
            with self._changing:
                if self._leavers.get(name) is taken_off:
                    del self._leavers[name]

        try:
            start_thread(take_off, "torchremote-group-leaver")
        except RuntimeError:  # no more threads can be started
            time.sleep(LAST_CALLS)  # here: a worker that comes back must not find the old one listed
            agent.take_off(name, number)
            taken_off.set()

    # -- leaving

    @property
    def current(self) -> bool:
        """Says whether this process is in the group."""
        return self._agent is not None and self._agent.current

    def leave(self, timeout: float) -> None:
        """Leaves the group. Waits for calls in flight, for `timeout` seconds at most."""
        self._leaving = True
        until = time.monotonic() + timeout
        agent = self._agent
        try:
            if agent is not None and not self._has_lost:  # torch logs an error for a reference to a lost worker
                # Owners would log the references as leaks when they end. A call that has not begun yet needs its
                # module.
                while agent.calls_of_own() and time.monotonic() < until:
                    time.sleep(0.01)
                if not agent.calls_of_own():
                    agent.let_go(min(timeout, _LETTING_GO))
            self._connection.send({"do": "leave"})
            while agent is not None and agent.current and agent.calls_in_flight() and time.monotonic() < until:
                time.sleep(0.01)
        finally:  # also at Ctrl-C
            self.end()

    def end(self) -> None:
        """Ends the connection and the agent.

        Waits for no other worker, and at most `LONGEST_END` seconds for the thread that reads from the hub.
        """
        self._leaving = True
        self._connection.end()
        try:
            self._thread.end(LONGEST_END)
        finally:  # also at a second Ctrl-C
            self._connection.close()
            if self._agent is not None:
                self._agent.stop()
            lost_workers.forget_all()

    def forget(self) -> None:
        """Closes a forked process's copy of the connection, which would outlive the worker's own."""
        self._connection.close()


# -- members in messages


def _as_message(member: _torch.AgentOfMember) -> Message:
    return {
        "url": member.url,
        "maps": {
            worker: [[str(here), str(there)] for here, there in mapped.items()]
            for worker, mapped in member.device_maps.items()
        },
        "devices": list(map(str, member.devices)),
        "device_count": member.device_count,
    }


def _from_message(member: Message) -> _torch.AgentOfMember:
    device: Callable[[str], Any] = torch.device
    maps = {
        worker: {device(here): device(there) for here, there in mapped} for worker, mapped in member["maps"].items()
    }
    devices = tuple(map(device, member["devices"]))
    return _torch.AgentOfMember(member["name"], member["number"], member["url"], maps, devices, member["device_count"])
