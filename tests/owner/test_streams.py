"""What an owner knows of streams: those that were not used for long, and those of modules that ran calls at once."""

import itertools
import threading
import time
from typing import List

import pytest
import torch

import torchremote as tr
from torchremote import _torch
from torchremote.jit import compile_interface
from torchremote.jit.runtime import turns
from torchremote.jit.script.common import common_definitions
from torchremote.owner import modules

from ..group import play
from .test_turns import Log, LogModule, said, say


def numbers_of(stream, count):
    generator = torch.Generator().manual_seed(stream)
    return torch.empty([count], dtype=torch.long).random_(turns.TICKETS, generator=generator).tolist()


class Calls:
    """Calls the endpoint of a module with tickets of a stream."""

    def __init__(self, stream, count):
        contract = compile_interface(Log).contract
        self._entry = modules.by_name["log"]
        self._handle = modules.handle_for(self._entry, contract)
        self._add = _torch.find_function(contract.endpoints["add"])
        self._flags = [stream << turns.FLAG_BITS | ticket << turns.TICKET_SHIFT for ticket in numbers_of(stream, count)]

    def add(self, number):
        self._add(self._handle, number, self._flags[number])

    def come(self, *numbers):
        """Has calls come in this order, each before the last one has ended; what the module saw, and if one waited."""
        began, seen = time.monotonic(), len(self._entry.hosting.module.seen)
        threads = []
        for number in numbers:
            threads.append(threading.Thread(target=self.add, args=(number,)))
            threads[-1].start()
            time.sleep(0.05)
        for thread in threads:
            thread.join()
        return self._entry.hosting.module.seen[seen:], time.monotonic() - began > turns.PATIENCE / 1e9


def serve(in_turn):
    tr.serve(LogModule(), Log, "log", replace=True, in_turn=in_turn)


def forgotten(store):
    serve(None)
    calls = Calls(1, 10)
    for number in range(5):
        calls.add(number)
    for stream in range(2, 2 + 2 * turns.MOST_STREAMS):
        Calls(stream, 1).add(0)
    say(*calls.come(6, 5))
    say("new", *Calls(10_000, 2).come(1, 0))
    unknown = Calls(20_000, 100_003)
    say("unknown", unknown.come(100_000), unknown.come(100_002, 100_001))


def test_a_stream_that_is_forgotten_keeps_its_order(tmp_path):
    assert said(play(tmp_path, forgotten)[0]) == [
        "[5, 6] False",
        "new [0, 1] False",
        "unknown ([100000], False) ([100001, 100002], False)",
    ]


def at_once(store):
    serve(None)
    known, later = Calls(1, 100), Calls(2, 100)
    for number in range(5):
        known.add(number)
    serve(False)
    for number in range(5, 55):
        known.add(number)
    serve(None)
    say(known.come(55), known.come(57, 56))
    serve(True)  # nobody lost count
    say(known.come(59, 58))
    serve(False)
    known.add(60)
    known.add(61)
    serve(None)
    say("overtaken", known.come(63, 64, 62), known.come(66, 65))
    say("new", later.come(1, 0))


def test_a_module_that_ran_calls_at_once_runs_them_in_turn_again(tmp_path):
    assert said(play(tmp_path, at_once)[0]) == [
        "([55], False) ([56, 57], False)",
        "([58, 59], False)",
        "overtaken ([63, 64, 62], False) ([65, 66], False)",
        "new ([0, 1], False)",
    ]


TEXT = """
def begin(number: int, ticket: int, position: int, is_counted: bool) -> List[int]:
    stream = StubOrder(number, ticket, position, is_counted)
    begun = [int(stream.in_order), stream.position, len(stream.skipped), stream.next]
    stream.go_on()
    begun.append(stream.next)
    return begun
"""


@pytest.fixture(scope="module")
def begin():
    resolve = _torch.resolver({**common_definitions(), "torch": torch, "List": List})
    return _torch.compile_function("__torch__.tests.begin", _torch.parsed(TEXT.strip()), resolve)


LATE = turns.MOST_OVERTAKEN


@pytest.mark.parametrize(
    ("position", "comes", "is_counted", "goes_on", "skipped"),
    [
        (0, 0, True, 0, 0),
        (0, LATE - 1, True, 0, 0),  # it overtook the others
        (0, LATE, True, LATE, LATE),  # nobody knows the stream any more
        (0, 100_000, True, 100_000, LATE),
        (3, 500, True, 3, 0),
        (150_000, 150_000, True, 150_000, 0),
        (150_000, 150_007, True, 150_000, 0),
        (0, 1, False, 1, 1),
        (3, 9, False, 9, 6),
        (3, 100_000, False, 100_000, LATE),
        (150_000, 250_000, False, 250_000, LATE),
    ],
)
def test_where_a_stream_goes_on(begin, position, comes, is_counted, goes_on, skipped):
    numbers = numbers_of(7, 250_002)
    for _ in range(3):  # TorchScript changes the graph after the first runs
        begun = begin(7, numbers[comes], position, is_counted)
        assert begun == [1, goes_on, skipped, *numbers[goes_on : goes_on + 2]]


def test_a_ticket_that_is_not_of_the_stream(begin):
    numbers = numbers_of(7, 1000)
    other = next(number for number in itertools.count() if number not in numbers)
    assert begin(7, other, 0, True) == [0, 0, 0, *numbers[:2]]


KEEPING = """
def keep(known: int, first: List[int]) -> List[int]:
    turns = Turns(None, None)
    for number in range(known):
        turns.positions[1000000 + number] = 1
    for number in range(len(first)):
        turns.stream(1 + number, first[number]).go_on()
    return [len(turns.streams), len(turns.positions), turns.positions[1]]
"""


def test_an_owner_keeps_so_many_streams():
    resolve = _torch.resolver({**common_definitions(), "torch": torch, "List": List})
    keep = _torch.compile_function("__torch__.tests.keep", _torch.parsed(KEEPING.strip()), resolve)
    first = [numbers_of(1 + number, 1)[0] for number in range(turns.MOST_STREAMS + 1)]
    half = turns.MOST_STREAMS // 2
    assert keep(0, first) == [half + 1, half, 1]
    assert keep(turns.MOST_POSITIONS, first) == [half + 1, turns.MOST_POSITIONS // 2 + half, 1]
