"""Runs the calls of a module that changes itself one after the other, in the order in which each stub sent them.

A process compiles this text once, for all interfaces. owner/running/turns.py decides which modules it is for.

Note [Calls in turn]
    A method that assigns an attribute, as in `self.hidden = new`, lets go of the value that was there. If another call
    reads it at that moment, it reads freed memory. So calls of such a module may not run at once.

    TorchScript has no locks. But it runs what `torch.jit.fork` starts on a pool of threads, first come, first served.
    If the pool has one thread, that is a queue. So the endpoint of such a module forks its call, and waits for it
    without holding a thread. A call that fails ends only its own fork.

    A call that waits for something, such as a remote module of its own, leaves the thread. Other calls run meanwhile,
    also of the same module, and it goes on behind those that came before. So nothing blocks, not even two modules that
    call each other. But what a method read before it waited may be different afterwards.

Note [Tickets]
    RPC hands the messages of one caller to several threads, which overtake each other. So the calls of a stub have
    tickets, and a call that comes too early steps aside until those before it have begun. That only costs something
    when calls overtake each other, about once in 25.

    Several threads may call through one stub, and TorchScript cannot count for them without losing count. But
    generators of random numbers have a lock. So a ticket is a random number. Owner and stub have the same generator,
    whose seed is the number of the stream, and so the owner knows the next ticket.

    A ticket may get lost, with a message that could not be sent. So a call steps aside for `PATIENCE` at most. A step
    counts as `LONGEST_STEP` at most: it may last because another module is slow, or the process was stopped, and then
    the missing call may be next in the queue. After that, the owner goes through the tickets up to the next one that is
    there, and remembers up to `MOST_LATE` of those that it skipped: if such a call arrives after all, it runs when it
    comes. If there is none among `MOST_LOST`, the two generators do not agree, and the calls of this stream run as they
    come.

    A module has generators for `MOST_STREAMS`. Of those that were not used for longest, and have no call that stepped
    aside, it keeps the position alone: how many tickets were drawn. From that, the generator is made again. It keeps
    `MOST_POSITIONS`.

    If another module was in its place whose calls ran at once, nobody counted these. Then a stream goes on with the
    call that comes. So does one of which nothing is known, if its first call has none of the first `MOST_OVERTAKEN`
    tickets: it was forgotten. The owner looks for this ticket among `MOST_SEARCHED`. The calls just before it may have
    been overtaken by it, and run when they come.

Note [Results of calls in turn]
    A result is written after the turn of its call has ended. If it were a tensor of the module, as in `return
    self.count`, later calls would change it before. TorchScript cannot say who else has a tensor. So the calls of a
    module that runs them in turn, or gathers them, carry a flag of the owner's own, IN_TURN, and their results are
    copied before the turn ends: tensors, and lists and dicts that are not rebuilt on the way. The calls of one message
    copy theirs one by one.
"""

# Python's own Generator has no seed.
# mypy: disable-error-code="call-arg"

from __future__ import annotations

from typing import Any, Dict, Final, Optional

import torch
from torch import Tensor

from .tensors import IN_TURN

FLAG_BITS: Final = 4
STREAM_BITS: Final = 28
TICKET_BITS: Final = 31
"""A call's flags (tensors.py), the number of its stream, and its ticket, in one integer. The lowest bits are the flags.
The stream 0 has no tickets."""
STREAMS: Final = 1 << STREAM_BITS
STREAM_MASK: Final = STREAMS - 1
TICKET_SHIFT: Final = FLAG_BITS + STREAM_BITS
TICKETS: Final = 1 << TICKET_BITS
FLAG_MASK: Final = (1 << FLAG_BITS) - 1
PATIENCE: Final = 3_000_000_000
LONGEST_STEP: Final = 100_000_000
"""Nanoseconds."""
MOST_LOST: Final = 1 << 16
MOST_LATE: Final = 1 << 10
MOST_OVERTAKEN: Final = 1 << 7
MOST_STREAMS: Final = 1 << 10
MOST_POSITIONS: Final = 1 << 17
MOST_SEARCHED: Final = 1 << 22
AT_A_TIME: Final = 1 << 15
"""Tickets. The work on more of them, torch divides among threads."""


def draw_tickets(tickets: torch.Generator, count: int) -> Tensor:
    return torch.empty([count], dtype=torch.long).random_(TICKETS, generator=tickets)


def draw_ticket(tickets: torch.Generator) -> int:
    return int(draw_tickets(tickets, 1))


# -- on the caller


def tickets_of(stream: int) -> Optional[torch.Generator]:
    if stream == 0:
        return None
    return torch.Generator(seed=stream)


def in_stream(flags: int, stream: int) -> int:
    return flags | stream << FLAG_BITS


def with_ticket(flags: int, tickets: Optional[torch.Generator]) -> int:
    if tickets is None:
        return flags
    return flags | draw_ticket(tickets) << TICKET_SHIFT


def as_in_turn(flags: int) -> int:
    return flags | IN_TURN


def is_in_turn(flags: int) -> bool:
    return flags & IN_TURN != 0


def without_ticket(flags: int) -> int:
    # The call runs when it comes.
    return flags & FLAG_MASK


# -- on the owner, on the one thread that runs forks


def draw_nth(tickets: torch.Generator, count: int) -> int:
    # Draws so many tickets, and returns the last one.
    ticket = -1
    while count > 0:
        some = min(count, AT_A_TIME)
        ticket = int(draw_tickets(tickets, some)[some - 1])
        count -= some
    return ticket


def find_ticket(tickets: torch.Generator, ticket: int) -> int:
    # Returns how many tickets come before this one. -1: it was not found.
    before, count = 0, MOST_OVERTAKEN
    while before < MOST_SEARCHED:
        found = (draw_tickets(tickets, count) == ticket).nonzero()
        if len(found) > 0:
            return before + int(found[0])
        before += count
        count = min(2 * count, AT_A_TIME)
    return -1


class StubOrder:
    def __init__(self, number: int, ticket: int, position: int, is_counted: bool):
        # `ticket`: of the call that came. If not `is_counted`, more than `position` tickets may have been drawn.
        self.early: Dict[int, int] = {ticket: 0}  # the tickets of calls that stepped aside
        self.early.clear()  # see Turns
        self.skipped: Dict[int, int] = {ticket: 0}  # the tickets for which the others no longer waited
        self.skipped.clear()
        self.last = 0  # its last piece of work: see gathering.py
        self.in_order = True
        self.is_counted = True
        self.position = position  # of the next ticket
        self.tickets = torch.Generator(seed=number)
        self.next = draw_nth(self.tickets, position + 1)
        if self.next != ticket and (position == 0 or not is_counted):
            before = find_ticket(self.tickets, ticket) + 1
            self.in_order = before > 0
            if is_counted and before < MOST_OVERTAKEN:
                before = 0
            self.position += max(before - MOST_OVERTAKEN, 0)
            # With the arguments of the first generator, TorchScript would take that one again.
            self.tickets = torch.Generator(device=torch.device("cpu"), seed=number)
            self.next = draw_nth(self.tickets, self.position + 1)
            while self.position < position + before:
                self.skip()

    def go_on(self) -> None:
        self.next = draw_ticket(self.tickets)
        self.position += 1

    def skip(self) -> None:
        if len(self.skipped) == MOST_LATE:
            self.skipped.clear()
        self.skipped[self.next] = 0
        self.go_on()

    def skip_lost(self) -> None:
        count = 0
        while count < MOST_LOST and self.next not in self.early:
            self.skip()
            count += 1
        self.in_order = self.next in self.early


class Turns:
    def __init__(self, strand: Any, current: Any) -> None:
        self.strand = strand  # of the native part, in which the calls run: see lower/in_turn.py, Note [Strands]
        self.current = current  # the last `Current`, if there is one: see current.py
        self.streams: Dict[int, StubOrder] = {}
        self.streams.clear()  # TorchScript makes one constant, for all objects, of a dict that nothing changes here
        self.positions: Dict[int, int] = {}  # of other streams; if nobody counted since, -1 - position
        self.positions.clear()
        self.last = 0  # the last piece of work of these: see gathering.py
        self.is_at_once = False  # whether the module runs its calls at once by now: see table.py
        self.returned = 0  # how often it ran them in turn again
        self.counted = 0  # how often that was when a call came
        self.queued = 0  # the pieces of work so far: see gathering.py
        self.unbegun: Dict[int, int] = {}  # work that holds back what was queued later, and how many calls of it
        self.unbegun.clear()

    def stream(self, number: int, ticket: int) -> StubOrder:
        if self.counted != self.returned:
            self.lose_count()
        if number in self.streams:
            stream = self.streams.pop(number)
            if not stream.is_counted and len(stream.early) == 0:
                last = stream.last
                stream = StubOrder(number, ticket, stream.position, False)
                stream.last = last
        else:
            if len(self.streams) >= MOST_STREAMS:
                self.forget()
            if number in self.positions:
                position = self.positions.pop(number)
                stream = StubOrder(number, ticket, max(position, -1 - position), position >= 0)
                stream.last = self.last
            else:
                stream = StubOrder(number, ticket, 0, True)
        self.streams[number] = stream  # the last one in the dict is the last that was used
        return stream

    def forget(self) -> None:
        for number in list(self.streams.keys())[: MOST_STREAMS // 2]:
            if len(self.streams[number].early) == 0:
                stream = self.streams.pop(number)
                is_counted = stream.is_counted and stream.in_order
                self.positions[number] = stream.position if is_counted else -1 - stream.position
                self.last = max(self.last, stream.last)
        if len(self.positions) > MOST_POSITIONS:
            for number in list(self.positions.keys())[: MOST_POSITIONS // 2]:
                self.positions.pop(number)

    def lose_count(self) -> None:
        # Other calls of the streams ran at once meanwhile.
        self.counted = self.returned
        for stream in self.streams.values():
            stream.is_counted = False
        for number in list(self.positions.keys()):
            position = self.positions[number]
            self.positions[number] = min(position, -1 - position)


def do_nothing(ticket: int) -> int:
    return ticket


def step_aside(ticket: int) -> None:
    # Goes on behind everything that is waiting for the thread.
    torch.jit.fork(do_nothing, ticket).wait()


def wait_for_turn(turns: Turns, flags: int) -> None:
    number = flags >> FLAG_BITS & STREAM_MASK
    if number != 0:
        ticket = flags >> TICKET_SHIFT
        stream = turns.stream(number, ticket)
        if stream.next != ticket and ticket in stream.skipped:
            stream.skipped.pop(ticket)
        elif stream.next != ticket:
            stream.early[ticket] = 0
            waited = 0
            before: int = torch.ops.prim.TimePoint()
            while stream.next != ticket and stream.in_order:
                if stream.next not in stream.early and waited >= PATIENCE:
                    stream.skip_lost()
                else:
                    step_aside(ticket)
                    now: int = torch.ops.prim.TimePoint()
                    waited += min(now - before, LONGEST_STEP)
                    before = now
            stream.early.pop(ticket)
        if stream.next == ticket:
            stream.go_on()
