"""Replicas: modules of the same name on several workers, called as one. `connect` makes them from a list of workers.

Note [Replicas]
    A call goes to the replica with the fewest calls in flight, and among equals to the first. Those that copies of the
    object in this process have in flight are counted, too. Each worker has the replicas in another order, by its
    number, so that callers with one call at a time are spread. To go to another one with every call would take longer:
    an owner that was just called answers faster.

    A replica whose worker is lost is left out, and so is one that was withdrawn. A thread asks for it, with growing
    pauses, and when the name is served again it takes part again. Callers never wait for that.

    A call that a replica refused, or that could not be sent, has not run: it goes to another replica. A call that got
    lost may have run. It goes to another one only if its method is `@idempotent`.

    A replica that did not answer in time may be stopped, or the call may have been long. It is taken only if there is
    no other, until its worker answers a question.
"""

from __future__ import annotations

import itertools
import logging
import time
import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import torch

from ... import _torch
from ...errors import (
    AbsentWorkerError,
    CallTimeoutError,
    NotInGroupError,
    PlaceError,
    StaleStubError,
    TorchRemoteError,
    WireError,
)
from ...jit import CompiledInterface
from ...link.places import find_worker
from ...link.timeouts import check_running
from ...link.words import first_line
from ...threads import at_work, start_thread
from ..calls.following import DEVICES, METHODS, NamedStubMethods
from ..creating.pending_stub import PendingStub, ask_for_served
from ..messages.pauses import pause_of
from ..messages.waiting import SuppressFailures, unless_of_a_handler
from ..stubs.at_owner import at_owner
from ..stubs.shared_mode import MODULE_LOST
from ..stubs.stub import with_timeout
from .replica import Replica, Shared, Taken

TEAM: Final = "_torchremote_team"
"""The attribute in which an object for replicas keeps its team."""

_LONGEST_PAUSE: Final = 1.0
"""Seconds between two questions for a replica that is left out, at most."""
ASKING: Final = 5.0
"""Seconds that its worker has for the answer."""

_IDLE: Final = (False, 0)
"""Whether a replica is late, and how many calls it has in flight, of one to which a call goes at once."""

_GONE: Final = "its worker has left the group or crashed"
"""Why a replica is left out, if the group said so, and no call."""
_ABSENT: Final = "its worker is not in the group"

_log = logging.getLogger("torchremote")


class Team:
    """The replicas behind one object that users call: see Note [Replicas]."""

    def __init__(
        self,
        compiled: CompiledInterface,
        name: str,
        timeout: float | None,
        where: Sequence[str],
        shared: Shared | None = None,
    ) -> None:
        self.compiled, self.name, self.timeout, self.where = compiled, name, timeout, tuple(where)
        self.devices: list[torch.device] = []  # accelerators on which results may be
        self.shared = Shared(where) if shared is None else shared
        self._lock = self.shared.lock
        first = (_torch.own_id() or 0) % len(where)
        self._replicas = [Replica(one, self.shared.loads[one]) for one in (*where[first:], *where[:first])]
        self._seeks_again = False  # no thread could be started that asks for a replica

    def take(self, calls: int = 1) -> Taken:
        """Chooses a replica for a call, or for a part of a batch. Who takes it gives it back.

        Raises:
            NotInGroupError: all are left out. Nothing was sent.
            NotInitializedError: so they are because RPC is not running in this process.
        """
        if self._seeks_again:
            self._seek_again()
        taken, late = Taken(self._lock), None
        with self._lock:
            best, least = None, _IDLE
            for replica in self._replicas:
                if replica.methods:
                    load = replica.load.late, replica.load.in_flight
                    if best is None or load < least:
                        best, least = replica, load
                    if load == _IDLE:
                        break  # no other has less
                    if replica.load.late and not replica.sought:
                        late = replica  # by a call of a copy, which may be let go before it is sought
            if best is not None:
                taken.count(best, calls)
        if late is not None:
            self._seek(late)
        if best is not None:
            return taken
        check_running()
        raise NotInGroupError(f"{self.shown}: no replica can be called; nothing was sent")

    def living(self) -> int:
        """Counts the replicas that can be called, without those that did not answer in time."""
        with self._lock:
            return sum(bool(replica.methods) and not replica.load.late for replica in self._replicas)

    def leave_out(self, replica: Replica, stub: Any, failure: TorchRemoteError) -> None:
        """Notes that a call through `stub` failed because the replica is lost, withdrawn, or late."""
        with self._lock:
            if replica.stub is not stub:
                return  # it was left out before, or is back already
            replica.why = _reason(failure)
            if isinstance(failure, CallTimeoutError):
                replica.load.late = True
            else:
                replica.stub, replica.methods = None, {}
        self._seek(replica)

    # -- coming back

    def start(self, within: float | None) -> list[PendingStub | TorchRemoteError]:
        """Asks all workers for their modules. Returns the answers to come, or errors, in the order of `where`.

        Args:
            within: seconds that they have to answer; None for RPC's default.
        """
        asked: list[PendingStub | TorchRemoteError] = []
        for where in self.where:
            try:
                asked.append(self._ask(where, within))
            except unless_of_a_handler(PlaceError, WireError) as error:
                asked.append(error)
        return asked

    def put(self, where: str, stub: Any, is_copy: bool = False) -> None:
        """Has a replica be called through `stub` from now on.

        Args:
            is_copy: the stub was made of one of another object for these replicas. Its module has their mode, and its
                worker was not asked.
        """
        while True:
            mode = self.shared.wanted
            if mode is not None and not is_copy:
                try:
                    at_owner(stub, ASKING).train(mode)
                except MODULE_LOST:
                    raise
                except unless_of_a_handler(TorchRemoteError) as error:
                    _log.warning(
                        "torchremote: %s: the mode that was set here is refused: %s", self.title, first_line(error)
                    )
            with self._lock:
                if self.shared.wanted is not mode:
                    continue
                replica = self._replica_at(where)
                methods: NamedStubMethods = stub.__dict__[METHODS]
                replica.stub, replica.methods, replica.why = stub, methods, _GONE
                replica.load.late = is_copy and replica.load.late
                self.devices += [device for device in stub.__dict__[DEVICES] if device not in self.devices]
            methods.when_lost = partial(_seek_for, weakref.ref(self), replica)
            if not methods:  # it was lost meanwhile
                self._seek(replica)
            return

    def note_lost(self, where: str, why: TorchRemoteError) -> None:
        """Says why a replica could not be found at first. It takes part as soon as it can be."""
        _log.warning("torchremote: %s: %s is left out for now: %s", self.title, where, why)
        replica = self._replica_at(where)
        replica.why = _reason(why)
        self._seek(replica)

    def along(self, timeout: float | None) -> Team:
        """Makes a team of the same modules, whose calls have another timeout."""
        another = Team(self.compiled, self.name, timeout, self.where, self.shared)
        for replica in self._replicas:
            another._replica_at(replica.where).why = replica.why
        another.put_all({where: with_timeout(stub, timeout) for where, stub in self.stubs().items()})
        return another

    def put_all(self, stubs: Mapping[str, Any]) -> None:
        """Has those replicas be called that `stubs` has stubs of, and looks for the others."""
        for where, stub in stubs.items():
            self.put(where, stub, is_copy=True)
        for replica in self._replicas:
            if replica.where not in stubs:
                self._seek(replica)

    def _ask(self, where: str, within: float | None) -> PendingStub:
        worker = find_worker(where)
        # A call that fails goes to another replica, so it must not wait for this one.
        return ask_for_served(worker, self.compiled, self.name, self.timeout, within=within, followed=False)

    def _replica_at(self, where: str) -> Replica:
        return next(replica for replica in self._replicas if replica.where == where)

    def _seek(self, replica: Replica) -> None:
        """Has a thread ask for a replica until it is there, or nobody has these replicas any more.

        If no thread can be started, the next call tries again. It is no error of the call that found the replica lost.
        """
        is_ours = False
        try:
            with self._lock:
                if replica.sought:
                    return
                replica.sought = is_ours = True
            start_thread(partial(_bring_back, weakref.ref(self), replica), "torchremote-replica")
        except BaseException as error:  # of a signal's handler; RuntimeError: this process can start no more threads
            if is_ours:
                replica.sought, self._seeks_again = False, True
            if not isinstance(error, RuntimeError):
                raise

    def _seek_again(self) -> None:
        self._seeks_again = False
        for replica in self._replicas:
            if not replica.methods or replica.load.late:
                self._seek(replica)

    def _ask_again(self, replica: Replica) -> bool:
        """Asks for a replica that is sought, once. Says whether the search is over."""
        try:
            self.put(replica.where, self._ask(replica.where, ASKING).wait())
        except CallTimeoutError:
            replica.why = f"its worker did not answer within {ASKING:g} s"
            return False
        except TorchRemoteError as error:
            replica.why = _reason(error)
            return False
        with self._lock:
            # It may be lost or late again since `put`. Whoever saw that started no thread, because of this one.
            replica.sought = not replica.methods or replica.load.late
            return not replica.sought

    # -- all of them

    def stubs(self) -> dict[str, Any]:
        """Returns the stubs of those that can be called, by what was given to `connect`, in that order."""
        with self._lock:
            there = {replica.where: replica.stub for replica in self._replicas if replica.methods}
        return {where: there[where] for where in self.where if where in there}

    def train(self, mode: bool) -> None:
        """Sets the mode of all replicas. Those that are left out get it when they come back.

        If one refuses the mode, the others get back the one that they had.
        """
        with self._lock:
            before, self.shared.wanted = self.shared.wanted, mode
            replicas = [(replica, replica.stub, replica.stub.training) for replica in self._replicas if replica.methods]
        for number, (replica, stub, _) in enumerate(replicas):
            try:
                self._set(replica, stub, mode)
            except TorchRemoteError:
                self.shared.wanted = before
                for has_it in replicas[:number]:
                    with SuppressFailures(TorchRemoteError):
                        self._set(*has_it)
                raise
        self.shared.training = mode

    def _set(self, replica: Replica, stub: Any, mode: bool) -> None:
        try:
            at_owner(stub).train(mode)
        except unless_of_a_handler(WireError, StaleStubError) as error:
            self.leave_out(replica, stub, error)

    @property
    def title(self) -> str:
        """Words which replicas these are."""
        return f"{self.compiled.interface.name} {self.name!r} on {', '.join(self.where)}"

    @property
    def shown(self) -> str:
        """Words which replicas these are, and how each is."""
        with self._lock:
            of = {replica.where: str(replica) for replica in self._replicas}
        return f"{self.compiled.interface.name} {self.name!r} on {', '.join(of[where] for where in self.where)}"


def team_of(replicas: Any) -> Team:
    """Returns the team of an object for replicas."""
    team: Team = replicas.__dict__[TEAM]
    return team


def _seek_for(of: weakref.ref[Team], replica: Replica) -> None:
    team = of()
    if team is not None:
        team._seek(replica)


def _bring_back(of: weakref.ref[Team], replica: Replica) -> None:
    """Asks for a replica until it is there: see Note [Replicas]."""
    try:
        for number in itertools.count():
            # At first, too: of replicas that were made for a single call, nothing is left then.
            time.sleep(pause_of(number, _LONGEST_PAUSE))
            with at_work():
                team = of()
                if team is None or team._ask_again(replica):
                    return
                del team
    except BaseException:  # a bug; the next call starts another thread
        replica.sought = False
        if (team := of()) is not None:
            team._seeks_again = True
        raise


def _reason(error: Exception) -> str:
    """Says why a replica is left out."""
    return _ABSENT if isinstance(error, AbsentWorkerError) else first_line(error)
