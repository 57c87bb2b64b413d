"""Finds out which workers that hold leases have died.

Note [Holders that die]
    torch does not learn that a reference died with its worker. So in every round of the sweeper (chores.py), an owner
    sends every holder an operator that needs no Python there. A lost connection ends all leases of that holder: in one
    group, torch does not connect to a worker twice. A holder that does not answer in time may be busy, or stopped by a
    debugger. It keeps its leases.

    A holder to which the owner cannot connect may live, and call: torch closes the port of a worker for good when a
    connection ends too early (group/listener.py, Note [Deaf workers]). So every holder gives its owners signs of its
    life. One that refuses the connection keeps its leases until it is taken off the group, or there was no sign for
    `SILENT_ROUNDS`. Rounds, and not seconds: an owner that was stopped finds the signs of that time when it goes on.

    The owner answers a sign with whether it knows of a lease. After two answers that it does not, there are no more
    signs, until the holder asks for a lease again. Two, because a lease may have been on its way at the first. While a
    module is created, no answer counts: its owner knows of the lease when it is done.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
import torch.distributed.rpc as rpc

from ... import _torch, chores
from ...link.failures import FAILURES
from ...link.lost import is_lost, is_refused
from ...locks import new_lock

ROUNDS_BETWEEN_SIGNS: Final = 12
"""Rounds of the sweeper between two signs that a holder gives."""
SILENT_ROUNDS: Final = 120
"""Rounds without a sign after which a holder that takes no connection has died."""

numbers: Iterator[int] = itertools.count()
"""Of leases and of questions, in the order in which they began."""

# -- on the owner


@dataclass
class _Holder:
    """A worker that holds leases.

    Attributes:
        asked: the Future of its next answer. None if torch could not send the question.
        number: the question's. In the next group, another worker may have the same id, but its leases came later.
        silent: the rounds for which it has given no sign, while it takes no connection.
    """

    asked: torch.futures.Future[Any] | None
    number: int
    silent: int = 0


_holders: dict[int, _Holder] = {}  # by id; only the sweeper's thread changes which are there


def meet(holder: int) -> None:
    """Has the sweeper ask a holder soon, if it is new: what ends a connection shows only if there was one."""
    if holder not in _holders:
        chores.soon(partial(_ask_if_new, holder))


def _ask_if_new(holder: int) -> None:
    if holder not in _holders and _torch.own_id() not in (None, holder):
        _holders[holder] = _Holder(_ask(holder), next(numbers))


def find_lost(leases: Mapping[int, list[tuple[int, int]]]) -> list[tuple[int, int]]:
    """Returns the leases of holders that are lost, and asks the others again: see Note [Holders that die].

    Args:
        leases: for the id of each holder: its leases, as a handle and a number.
    """
    own = _torch.own_id()
    if own is None:  # RPC has ended, and all leases with it
        _holders.clear()
        return [lease for of_holder in leases.values() for lease in of_holder]
    lost: list[tuple[int, int]] = []
    for whose in leases.keys() - {own}:
        holder = _holders.get(whose)
        if holder is None:
            _ask_if_new(whose)
        elif holder.asked is None or holder.asked.done():
            older = [(handle, number) for handle, number in leases[whose] if number < holder.number]
            if not _refuses(holder.asked):
                holder.silent = 0
            elif holder.silent < SILENT_ROUNDS and _is_in_group(whose):
                holder.silent += 1
                if len(older) == len(leases[whose]):
                    continue  # torch would fail again, and warn again
                older = []
            if _is_lost(holder.asked):
                lost += older
            holder.asked, holder.number = _ask(whose), next(numbers)
    for stranger in _holders.keys() - leases.keys():
        del _holders[stranger]
    return lost


def _ask(holder: int) -> torch.futures.Future[Any] | None:
    """Asks a holder for a sign of life. None if torch cannot send the question."""
    try:
        return _torch.ask_for_a_sign(holder)
    except FAILURES:
        return None


def _is_lost(asked: torch.futures.Future[Any] | None) -> bool:
    """Says whether what `_ask` returned, and is done, shows that the holder or the way to it is lost."""
    return _torch.rpc_running() and (asked is None or is_lost(_failure(asked)))


def _is_in_group(holder: int) -> bool:
    """Says whether a worker is in the group. One that workers join takes off those that have died."""
    with suppress(RuntimeError):
        return any(worker.id == holder for worker in _torch.worker_infos())
    return False  # RPC has ended just now, and all leases with it


def _refuses(asked: torch.futures.Future[Any] | None) -> bool:
    """Says whether the holder takes no connection."""
    return asked is not None and is_refused(_failure(asked))


def _failure(answer: torch.futures.Future[Any]) -> str:
    """Returns the message of the error with which an answer ended; "" if it did not."""
    try:
        answer.value()
    except FAILURES as error:
        return str(error)
    return ""


def sign_here(holder: int) -> bool:
    """Notes that a holder lives, and says whether it is one."""
    known = _holders.get(holder)
    if known is not None:
        known.silent = 0  # a round that counts just now may win; the next signs come long before `SILENT_ROUNDS`
    return known is not None


# -- on the holder


@dataclass
class _Owner:
    """An owner that gets signs.

    Attributes:
        awaited: Futures of its answers to requests that create modules. It knows of no lease before it answers.
        sign: the Future of its answer to the last sign. None: it got none yet.
        unknown: how many answers running said that it knows of no lease.
    """

    awaited: set[torch.futures.Future[Any]]
    sign: torch.futures.Future[Any] | None = None
    unknown: int = 0


_lock = new_lock()
_owners: dict[str, _Owner] = {}  # by name: those of which this process may hold a lease
_rounds = 0


def give_signs(owner: str, answer: torch.futures.Future[Any] | None = None) -> None:
    """Has the sweeper tell an owner, from now on, that this process lives.

    Args:
        answer: the Future of the owner's answer, if it was asked to create modules.
    """
    with _lock:
        before = _owners.get(owner)
        awaited = set() if before is None else before.awaited
        if answer is not None:
            awaited.add(answer)
        _owners[owner] = _Owner(awaited)  # it may have been restarted since the last sign
    chores.regularly(_give_signs)


def _give_signs() -> None:
    global _rounds
    own = _torch.own_id()
    _rounds += 1
    if own is None or _rounds % ROUNDS_BETWEEN_SIGNS:
        return
    with _lock:
        owners = list(_owners.items())
    for name, owner in owners:
        sign: torch.futures.Future[Any] | None = None
        if _is_owner(owner):
            with suppress(*FAILURES):  # raised if it is lost, or has left
                sign = rpc.rpc_async(name, sign_here, (own,))
        owner.sign = sign
        with _lock:
            if sign is None and _owners[name] is owner:  # otherwise a lease came meanwhile
                del _owners[name]


def _is_owner(owner: _Owner) -> bool:
    """Says, by the answer to the last sign, whether this may be an owner still: see Note [Holders that die]."""
    if owner.sign is None or not owner.sign.done():
        return True
    try:
        is_known = owner.sign.value() is not False  # None: the owner is of a release that does not say it
    except FAILURES as error:
        return not is_lost(str(error))
    with _lock:
        owner.awaited -= {answer for answer in owner.awaited if answer.done()}
        owner.unknown = 0 if is_known or owner.awaited else owner.unknown + 1
    return owner.unknown < 2
