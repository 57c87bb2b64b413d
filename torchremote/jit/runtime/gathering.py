"""Gathers calls of batched methods: those that wait while a batch runs become the next batch.

The gathering unit of an interface includes this text (lower/gathering.py). An owner compiles it for an interface whose
modules gather calls.

Note [Gathering]
    A module that gathers calls runs them in turn: see turns.py. When a call has its turn, it looks for an open batch in
    which it fits. If there is none, it opens one, and forks the run of it. That is work for the one thread that runs
    forks, behind all that waits there. Until it begins, other calls join the batch. So nothing waits for company: a
    batch forms while something else runs. When the run begins, the batch is closed. It concatenates the tensors, calls
    the method once, and splits the result. Each call then takes its slice.

    Only that one thread uses batches, so nothing needs a lock. A method that waits for a remote module leaves the
    thread. Then other batches form and run.

Note [Order of gathered calls]
    All work of a module has numbers, in the order in which it is queued: batches, and calls that are not gathered.
    Several batches may be open, such as one for each value of an argument. If the module changes itself, its stubs have
    streams: see turns.py. For each, the owner remembers the last number. A call does not join a batch with a lower
    number, because it would overtake an earlier call of its stub. Of other modules, nobody could tell the order.

Note [A batch that fails]
    All calls of a batch wait for one Future, and so all of them raise its error. If the method is idempotent, each is
    run again by itself, so that those that can succeed do. TorchScript cannot catch the error to find that out. But it
    runs `__exit__` of a `with` also if its body raises, and that stores that the batch has ended. `watch` looks for it.
    It comes behind the run in the queue, so it has to look again only if the method waits for a remote module.

    Work that was queued behind the batch may be in the queue before these calls, and of the same stub. So the batch
    notes how many calls run again, and work with a higher number steps aside until all of them have begun. It notes
    itself meanwhile, so that what comes behind it does not overtake it, either. A call that has begun holds back
    nothing, also if it waits: what it waits for may be a call of this module.
"""

# In TorchScript, a layout is an integer: 0 is strided.
# mypy: disable-error-code="operator"

from __future__ import annotations

from typing import Any, Final, List

import torch
from torch import Tensor
from torch.futures import Future

from .batches import MOST_BYTES, bytes_of, concatenated, cut, joins
from .message import has_sparse, marked
from .ordinary import like_it
from .tensors import needs_grad
from .turns import FLAG_BITS, STREAM_MASK, Turns, step_aside, without_ticket

MOST_OPEN: Final = 16
"""The most batches of a method that are open at once. The oldest is closed then, and runs when its turn comes."""


def last_of(turns: Turns, flags: int) -> int:
    # The number of the last work of a call's stream. Calls without a ticket have no order.
    number = flags >> FLAG_BITS & STREAM_MASK
    return 0 if number == 0 else turns.streams[number].last


def set_last(turns: Turns, flags: int, last: int) -> None:
    number = flags >> FLAG_BITS & STREAM_MASK
    if number != 0:
        turns.streams[number].last = last


def take_place(turns: Turns, flags: int) -> int:
    # Numbers the work of a call that is not gathered. Its fork follows at once.
    turns.queued += 1
    set_last(turns, flags, turns.queued)
    return turns.queued


def begin_call(turns: Turns, number: int) -> None:
    turns.unbegun[number] -= 1
    if turns.unbegun[number] == 0:
        turns.unbegun.pop(number)


def begin_work(turns: Turns, number: int) -> None:
    # Waits until all calls that run again for a failed batch have begun, and what was queued between has, too.
    if len(turns.unbegun) > 0:
        turns.unbegun[number] = 1
        while min(turns.unbegun.keys()) < number:
            step_aside(number)
        begin_call(turns, number)


def have_equal_rows(tensors: List[Tensor], dim: int) -> bool:
    for tensor in tensors:
        if tensor.size(dim) != tensors[0].size(dim):
            return False
    return len(tensors) > 0


def fit(first: List[Tensor], other: List[Tensor], dim: int) -> bool:
    # Says whether the tensors of two calls can be concatenated.
    if len(first) != len(other):
        return False
    for place in range(len(first)):
        if not joins(first[place], other[place], dim):
            return False
        if first[place].requires_grad != other[place].requires_grad:
            return False
    return have_equal_rows(first, dim) and have_equal_rows(other, dim)


def bytes_of_all(tensors: List[Tensor]) -> int:
    size = 0
    for tensor in tensors:
        size += bytes_of(tensor)
    return size


class Batch:
    def __init__(self, turns: Turns, number: int, flags: int, repeats: bool):
        self.turns = turns
        self.number = number
        self.repeats = repeats  # whether its calls run again if it fails
        self.flags = flags  # of all its calls, without their tickets
        self.calls: List[List[Tensor]] = []  # the tensors of each
        self.bytes = 0
        self.ran = False
        self.ended = False
        self.watching: List[Future[int]] = []

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self.ended = True
        if self.repeats and not self.ran and len(self.calls) > 1:
            self.turns.unbegun[self.number] = len(self.calls)

    def add(self, tensors: List[Tensor]) -> int:
        # Returns the place of the call.
        self.calls.append(tensors)
        self.bytes += bytes_of_all(tensors)
        return len(self.calls) - 1

    def takes(self, tensors: List[Tensor], dim: int, most: int, turns: Turns, flags: int) -> bool:
        # Says whether a call may join, if its other arguments are equal.
        if len(self.calls) >= most or self.flags != without_ticket(flags):
            return False
        if self.bytes + bytes_of_all(tensors) > MOST_BYTES:  # of one that is expanded, all that it shows
            return False
        return self.number >= last_of(turns, flags) and fit(self.calls[0], tensors, dim)

    def rows(self, dim: int) -> List[int]:
        return [tensors[0].size(dim) for tensors in self.calls]

    def joined(self, dim: int) -> List[Tensor]:
        # Of a call that is gathered, no gradient flows back. So each tensor is a leaf, as that of a single call is.
        with torch.no_grad():
            joined = concatenated(self.calls, dim)
        for place in range(len(joined)):
            joined[place] = like_it(joined[place], self.calls[0][place])
        return joined


def open_batch(turns: Turns, flags: int, repeats: bool) -> Batch:
    turns.queued += 1
    return Batch(turns, turns.queued, without_ticket(flags), repeats)


def watch(batch: Batch) -> int:
    # Waits until the batch has ended, and does not fail if it did.
    while not batch.ended:
        step_aside(batch.number)
    return batch.number


def are_too_many(opened: int) -> bool:
    return opened > MOST_OPEN


def can_gather(flags: int, tensors: List[Tensor], learns: bool, differentiates: bool) -> bool:
    # A batch has one graph, which the backward pass of one caller would free. So calls with gradients go by themselves.
    # `learns`: parameters of the module require gradients. `differentiates`: the method carries gradients.
    if has_sparse(flags):
        return False
    if differentiates and needs_grad(flags):
        for tensor in tensors:
            if tensor.requires_grad:
                return False
        return not learns
    return True


def sliced(joined: Tensor, pieces: List[List[Tensor]], rows: List[int], dim: int, where: str) -> Tensor:
    if joined.requires_grad:
        raise RuntimeError(
            "torchremote: "
            + where
            + ": the result of gathered calls requires a gradient, because the module's parameters do since it was "
            + "hosted; host it again, or call it under torch.no_grad()"
        )
    cut(joined, pieces, rows, dim, where)
    if joined.layout > 0:
        pieces[-1] = [marked(piece) for piece in pieces[-1]]
    else:  # an empty view that begins after the end of its storage ends the process that receives it
        pieces[-1] = [piece.clone() if piece.numel() == 0 else piece for piece in pieces[-1]]
    return joined
