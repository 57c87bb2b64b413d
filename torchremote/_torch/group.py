"""Runs an RPC agent whose list of workers is ours: workers are added and taken off while it runs.

Note [An agent without a group]
    torch has two kinds of groups. In one with a world size nobody comes or goes. In a dynamic group, each worker that
    joins or leaves takes a token from the group's store, and asks all others, two messages each, one after the other. A
    worker that crashed stays on two lists, one that stopped keeps everybody waiting, and one that failed half-way keeps
    the token for ever.

    So none of that is used. Each worker has an agent with a store of its own, which nobody else reads, and the hub
    (group/hub.py) says who the others are. An agent takes that from `_update_group_membership`, the function with
    which torch's dynamic groups do it.

    The agent is told that its group has a world size, of one. In dynamic groups torch takes no lock where it reads the
    list of workers: whoever sends a message while another worker joins may read freed memory. (The guard that should
    take the lock asks the wrong way round: it takes it only where there is a world size.) With a world size of one,
    `rpc.shutdown()` waits for nobody either. torch then looks up the worker with the number 0, so that number is no
    worker's; what it finds is taken off before the agent starts.

Note [Taking a worker off]
    torch takes a worker off its lists without a lock. A thread that is sending to this worker at that moment still
    reads the worker's name and number, in memory that is free by then. So before that, no stub of ours calls the
    worker any more, and a moment passes (group/membership.py). What is left are scripted models that go on calling a
    lost worker. The thread that takes a worker off therefore does nothing else, and stays for a while: the C library
    keeps small pieces of memory that a thread freed for that thread alone, so nobody overwrites what such a call still
    reads.

    torch takes no lock either where it goes through the whole list. So whoever lists the workers takes one of ours, as
    does whoever changes the list: `worker_infos` and `update_workers`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.autograd as dist_autograd
import torch.distributed.rpc as rpc
from torch.distributed.rpc import api as _api
from torch.distributed.rpc import backend_registry as _backend

from .rpc import ask_for_a_sign, update_workers

_rpc: Any = rpc
_autograd: Any = dist_autograd

DeviceMap = dict[torch.device, torch.device]
_NOBODY = "torchremote:nobody"
_ours: Any = None  # the agent of this process's `GroupAgent`
_has_let_go = False  # whether that has let go of references


def workers_may_join() -> bool:
    """Says whether other workers may still join this process's group. In one with a world size none can."""
    agent: Any = _api._get_current_rpc_agent()
    return agent is _ours or not agent.is_static_group


def has_let_go() -> bool:
    """Says whether this process has left a group of ours, or is leaving it, and lets go of references: `let_go`."""
    return _has_let_go


@dataclass(frozen=True)
class AgentOfMember:
    """Tells an agent of a member, itself included."""

    name: str
    number: int
    url: str = ""
    device_maps: dict[str, DeviceMap] = field(default_factory=dict)  # to each worker that the member maps devices to
    devices: Sequence[torch.device] = ()  # to which the member's options restrict it
    device_count: int = 0


class GroupAgent:
    """The agent of this process in a group of ours: see Note [An agent without a group]."""

    def __init__(self, name: str, number: int, autograd_number: int, options: rpc.TensorPipeRpcBackendOptions) -> None:
        """Makes an agent. `start` starts it; whoever made it can `stop` it whatever interrupts the start.

        Args:
            number: one that no other worker of the group has, or ever had.
            autograd_number: this process's number in distributed autograd, as the function of this name has it, or a
                new one.

        Raises:
            RuntimeError: torch cannot make an agent with these options.
        """
        self._store = dist.HashStore()
        self._store.set_timeout(timedelta(seconds=5))
        self._store.set("names/0", _NOBODY)
        self._agent = _rpc.TensorPipeAgent(self._store, name, number, 1, options, {}, [])
        update_workers(self._agent, rpc.WorkerInfo(_NOBODY, 0), [], {}, False)
        _autograd._init(autograd_number)
        maps = {worker: dict(mapped) for worker, mapped in options.device_maps.items()}
        self.own = AgentOfMember(name, number, "", maps, tuple(options.devices), torch.cuda.device_count())
        self._others: dict[str, AgentOfMember] = {}
        self._changing = threading.Lock()

    def start(self) -> None:
        """Starts RPC in this process. Raises RuntimeError if torch cannot."""
        global _ours, _has_let_go
        _ours, _has_let_go = self._agent, False
        _rpc._set_profiler_node_id(self.own.number)
        _api._init_rpc_states(self._agent)
        self.own = replace(self.own, url=self._store.get(f"addrs/{self.own.name}").decode())
        if torch.cuda.is_available() and (self.own.device_maps or self.own.devices):
            torch.cuda.init()

    @property
    def current(self) -> bool:
        """Says whether RPC runs with this agent: `rpc.shutdown()` ends it."""
        return bool(_api._is_current_rpc_agent_set()) and _api._get_current_rpc_agent() is self._agent

    def check_device_maps(self, others: Sequence[AgentOfMember]) -> None:
        """Raises ValueError if device maps of this worker, or those between it and others, do not fit."""
        every = [self.own, *others]
        names = [one.name for one in every]
        counts = {one.name: one.device_count for one in every}
        maps = {one.name: one.device_maps for one in every}
        devices = {one.name: list(one.devices) for one in every}
        _backend._validate_device_maps(names, counts, maps, devices, is_static_group=False)

    def add(self, member: AgentOfMember) -> None:
        """Adds a worker to the agent's lists."""
        self._store.set(f"addrs/{member.name}", member.url)
        info = rpc.WorkerInfo(member.name, member.number)
        with self._changing:
            self._others[member.name] = member
            self._update(info, True)

    def close_connection(self, name: str, seconds: float) -> None:
        """Has torch close its connection to a worker that has ended. Without this it keeps the files open for ever.

        Args:
            seconds: in which torch has to notice the end.
        """
        # It reads from a connection only while a call waits for its answer, so a call has to be made.
        with suppress(RuntimeError):
            ask_for_a_sign(name, timeout=seconds)

    def take_off(self, name: str, number: int) -> None:
        """Takes a worker off the agent's lists: see Note [Taking a worker off]."""
        info = rpc.WorkerInfo(name, number)
        with self._changing:
            self._others.pop(name, None)
            self._update(info, False)
            self._store.delete_key(f"addrs/{name}")  # a worker that comes back brings its own

    def _update(self, info: rpc.WorkerInfo, joins: bool) -> None:
        """Tells torch of a worker that joins or leaves. The caller holds `_changing`."""
        # torch drops all devices and maps that it is not told of: those of another thread's worker, too.
        update_workers(self._agent, info, self._devices(), self._reverse_maps(), joins)

    def _reverse_maps(self) -> dict[str, DeviceMap]:
        """Returns, for each worker that maps devices to this one, the map for answers."""
        maps: Mapping[str, Any] = {one.name: one.device_maps for one in (self.own, *self._others.values())}
        reverse: dict[str, DeviceMap] = _backend._create_reverse_mapping(self.own.name, list(maps), maps)
        return reverse

    def _devices(self) -> list[torch.device]:
        maps, reverse = self.own.device_maps, self._reverse_maps()
        devices: list[torch.device] = _backend._create_device_list(list(self.own.devices), maps, reverse)
        return devices

    def calls_of_own(self) -> int:
        """Counts the calls that this worker waits for."""
        return int(self._agent.get_metrics()["agent.client_active_calls"]) if self.current else 0

    def calls_in_flight(self) -> int:
        """Counts the calls that this worker waits for, and those that it runs for others."""
        return self.calls_of_own() + int(self._agent.get_metrics()["agent.server_active_calls"])

    def let_go(self, seconds: float) -> None:
        """Lets go of this worker's references to what others own. torch's `rpc.shutdown()` does the same.

        Args:
            seconds: for which to wait for owners that have not confirmed a reference yet.
        """
        global _has_let_go
        # torch's function also waits until nobody refers to what this worker owns, which others decide.
        if self.current and int(_rpc._rref_context_get_debug_info()["num_owner_rrefs"]) == 0:
            _has_let_go = True
            _rpc._delete_all_user_and_unforked_owner_rrefs(timedelta(seconds=seconds))

    def stop(self) -> None:
        """Ends RPC in this process. It asks nobody, and waits only for what runs here."""
        if self.current:
            _api._finalize_shutdown()


def autograd_number() -> int | None:
    """Returns the number that distributed autograd has in this process. None: it has none yet.

    torch takes one for the life of a process, in the first group, and makes the ids of contexts and messages of it. So
    no two workers of a group may have the same.
    """
    try:
        return int(_autograd._get_max_id()) >> _ID_BITS
    except RuntimeError:  # it was not initialized
        return None


_ID_BITS = 48  # of an id, below the number
