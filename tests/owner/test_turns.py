"""Calls of modules that change themselves: one after another, in the order of each stub."""

import statistics
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Dict, List

import pytest
import torch
import torch.distributed.autograd as dist_autograd
import torch.distributed.rpc as rpc
from torch import Tensor, nn

import torchremote as tr
from torchremote import _torch
from torchremote.dropin import remote_module
from torchremote.errors import ArgumentError, CallTimeoutError, CreationError, RemoteError
from torchremote.jit import compile_interface
from torchremote.jit.runtime import turns
from torchremote.jit.script.common import common_definitions
from torchremote.owner import modules, scripting
from torchremote.owner.running.hosting import Ways

from ..group import one_thread_for_forks, play
from ..waiting import until

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@tr.remote_scriptable
class Recurrent:
    def forward(self, x: Tensor) -> Tensor: ...
    def fail(self) -> None: ...
    def reset(self) -> None: ...


class Hidden(nn.Module):
    """Adds up what it gets, in an attribute."""

    def __init__(self):
        super().__init__()
        self.hidden = torch.zeros(4)

    def forward(self, x: Tensor) -> Tensor:
        self.hidden = self.hidden + x
        return self.hidden

    def fail(self) -> None:
        self.hidden = self.hidden + 1
        raise ValueError("told to fail")

    def reset(self) -> None:
        self.hidden = torch.zeros(4)


@pytest.mark.parametrize("in_turn", ["no", 1, 0])
def test_in_turn_is_a_bool_or_none(owner, in_turn):
    for host in (
        lambda: tr.create(owner, Recurrent, Hidden, in_turn=in_turn),
        lambda: tr.create_many([owner], Recurrent, Hidden, in_turn=in_turn),
        lambda: tr.serve(Hidden(), Recurrent, "hidden", in_turn=in_turn),
    ):
        with pytest.raises(ArgumentError, match=f"in_turn={in_turn!r}: True, False or None is wanted"):
            host()


class InAList(nn.Module):
    seen: List[Tensor]

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return torch.full([4], float(len(self.seen)))

    def fail(self) -> None:
        raise ValueError("told to fail")

    def reset(self) -> None:
        self.seen.clear()


class InADictOfAPart(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = _Part()

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x)

    def fail(self) -> None:
        raise ValueError("told to fail")

    def reset(self) -> None:
        self.part.sums.clear()


class _Part(nn.Module):
    sums: Dict[str, Tensor]

    def __init__(self):
        super().__init__()
        self.sums = {}

    def forward(self, x: Tensor) -> Tensor:
        self.sums["all"] = self.sums.get("all", torch.zeros(4)) + x
        return self.sums["all"]


def in_flight(stub, x, calls, depth=200):
    """Calls with `depth` calls under way at once; the largest first element that came back."""
    pending, largest = [], 0.0
    for _ in range(calls):
        pending.append(stub.forward_async(x))
        if len(pending) == depth:
            largest = max([largest, *(float(future.wait()[0]) for future in pending)])
            pending = []
    return max([largest, *(float(future.wait()[0]) for future in pending)])


@pytest.mark.parametrize("cls", [Hidden, InAList, InADictOfAPart])
def test_no_call_is_lost(owner, cls):
    stub = tr.create(owner, Recurrent, cls)
    assert in_flight(stub, torch.ones(4), 3000) == 3000


def test_no_call_is_lost_from_many_stubs_and_threads(owner):
    tr.create(owner, Recurrent, Hidden, name="shared")
    try:
        stubs = [tr.connect(owner, Recurrent, "shared") for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda stub: in_flight(stub, torch.ones(4), 500, 50), stubs))
        assert stubs[0](torch.zeros(4))[0] == 2000
    finally:
        rpc.rpc_sync(owner, tr.withdraw, ("shared",))


@tr.remote_scriptable
class Log:
    def add(self, number: int) -> int: ...
    def numbers(self) -> List[int]: ...


class LogModule(nn.Module):
    seen: List[int]

    def __init__(self):
        super().__init__()
        self.seen = []

    def add(self, number: int) -> int:
        self.seen.append(number)
        return len(self.seen)

    def numbers(self) -> List[int]:
        return self.seen


def test_the_calls_of_one_stub_keep_their_order(owner):
    log = tr.create(owner, Log, LogModule)
    pending = [log.add_async(number) for number in range(2000)]
    assert [future.wait() for future in pending] == list(range(1, 2001))
    assert log.numbers() == list(range(2000))


def test_batches_and_calls_of_one_stub_keep_their_order(owner):
    log = tr.create(owner, Log, LogModule)
    pending = []
    for first in range(0, 600, 6):
        pending.append(log.add_async(first))
        pending.append(log.add_many_async([(first + n,) for n in range(1, 5)]))
        pending.append(log.add_async(first + 5))
    torch.futures.wait_all(pending)
    assert log.numbers() == list(range(600))


def test_a_batch_of_several_messages_keeps_its_order(owner):
    log = tr.create(owner, Log, LogModule)
    assert log.add_many([(number,) for number in range(2500)]) == list(range(1, 2501))
    assert log.numbers() == list(range(2500))


def test_each_thread_of_a_stub_keeps_its_order(owner):
    log = tr.create(owner, Log, LogModule)

    def work(thread):
        torch.futures.wait_all([log.add_async(1000 * thread + n) for n in range(300)])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    numbers = log.numbers()
    for thread in range(4):
        assert [number for number in numbers if number // 1000 == thread] == [1000 * thread + n for n in range(300)]


class Sender(nn.Module):
    log: compile_interface(Log).remote_interface

    def __init__(self, log):
        super().__init__()
        self.log = log

    def forward(self, first: int) -> int:
        futures = [self.log.add_async(first + n) for n in range(200)]
        for future in futures:
            future.wait()
        return len(futures)


def test_calls_of_a_scripted_model_keep_their_order(owner):
    log = tr.create(owner, Log, LogModule)
    sender = torch.jit.script(Sender(log))
    sender(0)
    sender(200)
    assert log.numbers() == list(range(400))


def test_a_sent_stub_has_an_order_of_its_own(owner):
    log = tr.create(owner, Log, LogModule)
    rpc.rpc_sync(owner, add_all, (log, 100))
    torch.futures.wait_all([log.add_async(number) for number in range(100, 300)])
    assert log.numbers() == list(range(300))


def add_all(log, count):
    torch.futures.wait_all([log.add_async(number) for number in range(count)])


def test_a_call_that_fails_stays_alone_and_keeps_the_order(owner):
    stub = tr.create(owner, Recurrent, Hidden)
    pending = []
    for _ in range(50):
        pending += [stub.forward_async(torch.ones(4)), stub.fail_async(), stub.forward_async(torch.ones(4))]
    for n, future in enumerate(pending):
        if n % 3 == 1:
            with pytest.raises(RemoteError, match=r"Recurrent.fail on owner: .*told to fail"):
                future.wait()
        else:
            assert future.wait()[0] == n + 1


def test_arguments_that_are_refused_take_no_ticket(owner):
    log = tr.create(owner, Log, LogModule)
    stub = tr.create(owner, Recurrent, Hidden)
    log.add(0)
    began = time.monotonic()
    with pytest.raises(tr.errors.ArgumentError):
        stub(torch.ones(4, device="meta"))
    with pytest.raises(torch.jit.Error, match="cannot send"):
        torch.jit.script(_Passing(stub))(torch.ones(4, device="meta"))
    assert stub(torch.ones(4))[0] == 1
    assert stub.forward_many([]) == []
    assert stub(torch.ones(4))[0] == 2
    assert time.monotonic() - began < turns.PATIENCE / 1e9, "the next call waited for those that were never sent"


class _Passing(nn.Module):
    stub: Recurrent

    def __init__(self, stub):
        super().__init__()
        self.stub = stub

    def forward(self, x: Tensor) -> Tensor:
        return self.stub.forward(x)


class Keeping(Hidden):
    """Keeps its thread for so many seconds."""

    def forward(self, x: Tensor) -> Tensor:
        self.hidden = self.hidden + keep_the_thread(int(x[0] * 1_000_000_000))
        return x


def test_a_call_that_waits_counts_once(owner):
    stub = tr.create(owner, Recurrent, Keeping)
    calls = [stub.forward_async(torch.full([4], float(seconds))) for seconds in (2, 0, 0, 0, 0)]
    seen = []
    while not calls[0].done():
        seen.append(tr.stats(owner).running)
    for call in calls:
        call.wait()
    # Mostly, these calls and the question itself. Others come and go: what earlier tests let go of, say.
    assert statistics.mode(seen) == 5 + 1


def test_gradients_flow(owner):
    stub = tr.create(owner, Recurrent, Hidden)
    x = torch.ones(4, requires_grad=True)
    with dist_autograd.context() as context:
        y = stub(x) * 2 + stub(x)  # the second call has the first one's graph behind it
        dist_autograd.backward(context, [y.sum()])
        assert torch.equal(dist_autograd.get_gradients(context)[x], torch.full([4], 4.0))


@tr.remote_scriptable
class Slow:
    def forward(self, rounds: int) -> int: ...


class SlowModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, rounds: int) -> int:
        self.calls.add_(1)
        x = torch.ones(64, 64)
        for _ in range(rounds):
            x = x @ x / 64
        return int(self.calls)


_slow = []  # on the owner


def make_slow_module():
    _slow.append(SlowModule())
    return _slow[-1]


def calls_begun():
    return int(_slow[-1].calls)  # the scripted module has the same buffer


def test_timeouts_hold_while_calls_wait_for_their_turn(owner):
    slow = tr.create(owner, Slow, make_slow_module, in_turn=True)
    slow(1)
    hasty = tr.with_timeout(slow, 0.1)
    working = slow.forward_async(100_000)
    until(lambda: rpc.rpc_sync(owner, calls_begun) == 2)  # the two stubs have no order, and it shall come first
    began = time.monotonic()
    with pytest.raises(CallTimeoutError):
        hasty(1)
    assert time.monotonic() - began < 5
    assert working.wait() == 2
    assert slow(1) == 4  # the owner ran also the call for which nobody waited


@tr.remote_scriptable
class PingPong:
    def forward(self, depth: int) -> int: ...
    def meet(self, other: str) -> int: ...


class PingPongModule(nn.Module):
    other: PingPong

    def __init__(self, name, other):
        super().__init__()
        self.other = tr.connect("owner", PingPong, other) if other else tr.create("owner", PingPong, Last)
        self.calls = 0

    def forward(self, depth: int) -> int:
        self.calls += 1
        if depth == 0:
            return 0
        return self.other.forward(depth - 1) + 1

    def meet(self, other: str) -> int:
        return self.calls


class Last(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, depth: int) -> int:
        self.calls += 1
        return 0

    def meet(self, other: str) -> int:
        return self.calls


def test_a_module_that_waits_for_another_one_in_turn_does_not_block(owner):
    first = tr.create(owner, PingPong, PingPongModule, args=("first", ""), name="first")
    try:
        second = tr.create(owner, PingPong, PingPongModule, args=("second", "first"))
        pending = [stub.forward_async(2) for _ in range(100) for stub in (first, second)]
        assert [future.wait() for future in pending] == [1, 2] * 100
        assert first.meet("") == 200  # another call may run while one waits
    finally:
        rpc.rpc_sync(owner, tr.withdraw, ("first",))


def test_a_module_is_read_and_replaced_while_it_is_called(owner):
    tr.create(owner, Recurrent, Hidden, name="busy")
    stub = tr.connect(owner, Recurrent, "busy")
    stop = threading.Event()

    def call():
        while not stop.is_set():
            in_flight(stub, torch.ones(4), 200, 50)

    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(call)
        try:
            for round in range(20):
                tr.at_owner(stub).state_dict()
                tr.at_owner(stub).train(round % 2 == 0)
                if round % 4 == 0:
                    rpc.rpc_sync(owner, serve_hidden, ("busy",))
        finally:
            stop.set()
        calling.result(timeout=60)
    assert next(one for one in tr.stats(owner).modules if one.name == "busy")
    rpc.rpc_sync(owner, tr.withdraw, ("busy",))


def serve_hidden(name):
    tr.serve(Hidden(), Recurrent, name, replace=True)


@pytest.mark.parametrize("in_turn", [True, False])
def test_the_user_decides(owner, in_turn):
    stub = tr.create(owner, Recurrent, Hidden, in_turn=in_turn)
    assert stub(torch.ones(4))[0] == 1
    assert rpc.rpc_sync(owner, entries_in_turn)[-1] == in_turn


def entries_in_turn():
    return [entry.hosting.ways.in_turn for entry in modules.entries_here()]


def test_create_many_and_remote_modules_run_in_turn(owner):
    logs = tr.create_many([owner, owner], Log, LogModule)
    assert [log.add(0) for log in logs] == [1, 1]
    assert rpc.rpc_sync(owner, entries_in_turn)[-2:] == [True, True]
    remote = remote_module._RemoteModule(owner, Hidden, _module_interface_cls=Recurrent)
    assert in_flight(remote, torch.ones(4), 1000) == 1000
    free = remote_module._RemoteModule(owner, Hidden, _module_interface_cls=Recurrent, in_turn=False)
    assert free.forward(torch.ones(4))[0] == 1
    assert rpc.rpc_sync(owner, entries_in_turn)[-2:] == [True, False]


def test_modules_and_stubs_share_no_dict():
    """TorchScript makes one constant of a dict that nothing changes in the graph that makes it."""
    resolve = _torch.resolver({**common_definitions(), "torch": torch, "List": List})
    text = """
def shared(ticket: int) -> List[bool]:
    one, other = Turns(None, None), Turns(None, None)
    stub, another = StubOrder(1, ticket, 0, True), StubOrder(2, ticket, 0, True)
    return [one.streams is other.streams, one.positions is other.positions, stub.early is another.early]
"""
    shared = _torch.compile_function("__torch__.tests.shared", _torch.parsed(text.strip()), resolve)
    assert [shared(3) for _ in range(4)] == [[False] * 3] * 4


# -- processes that can and cannot


def say(*words):
    print("said:", *words)


def said(printed):
    """Returns what a role said, without what torch prints."""
    return [line.removeprefix("said: ") for line in printed.splitlines() if line.startswith("said: ")]


def caller(store):
    """Asks an owner whose threads for forks run already."""
    rpc.rpc_sync("too_late", fork_something)
    try:
        tr.create("too_late", Recurrent, Hidden)
    except CreationError as error:
        say(str(error).splitlines()[0])
    say(tr.create("too_late", Recurrent, Hidden, in_turn=False)(torch.ones(4)).tolist())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):
            remote = remote_module._RemoteModule("too_late", Hidden, _module_interface_cls=Recurrent)
            say(remote.forward(torch.ones(4)).tolist())
        referred = rpc.remote("too_late", Hidden)
        remote_module.RemoteModule.init_from_module_rref("too_late", referred, Recurrent)
    say([warning.filename == __file__ for warning in caught])
    say([str(warning.message)[:60] for warning in caught])


def too_late(store):
    pass


def fork_something():
    torch.set_num_interop_threads(2)  # not 1, on a machine with one core
    torch.jit.script(_forking)(torch.ones(1))


def _work(x: Tensor) -> Tensor:
    return x


def _forking(x: Tensor) -> Tensor:
    return torch.jit.fork(_work, x).wait()


@one_thread_for_forks
def test_an_owner_that_cannot_says_what_to_write(tmp_path):
    refusal, free, first, second, named, warned = said(play(tmp_path, caller, too_late)[0])
    assert refusal.startswith("Recurrent on too_late: Hidden: its calls have to run one after another (Hidden.")
    assert "assigns self.hidden" in refusal
    assert "rpc_options(in_turn=True)" in refusal
    assert "in_turn=False" in refusal
    assert free == first == second == "[1.0, 1.0, 1.0, 1.0]"
    assert warned == f"{['Recurrent on too_late: Hidden: its calls have to run one aft'] * 2}"
    assert named == "[True, True]"  # the lines above, and none of torchremote


def alone(store):
    """Hosts a module that changes itself first, and then is one that can run calls in turn."""
    tr.serve(Hidden(), Recurrent, "hidden")
    say(torch.get_num_interop_threads())
    tr.rpc_options(in_turn=True)
    tr.rpc_options()


def late(store):
    torch.set_num_interop_threads(2)
    try:
        tr.rpc_options(in_turn=True)
    except RuntimeError as error:
        say(error)


@one_thread_for_forks
def test_hosting_prepares_a_process(tmp_path):
    assert said(play(tmp_path, alone)[0]) == ["1"]


@one_thread_for_forks
def test_options_that_come_too_late(tmp_path):
    assert "in_turn=True: this process has 2 threads for forks" in play(tmp_path, late)[0]


# -- tickets, on an owner without callers


@torch.jit.script
def keep_the_thread(nanoseconds: int) -> int:
    began: int = torch.ops.prim.TimePoint()
    while torch.ops.prim.TimePoint() - began < nanoseconds:
        pass
    return 0


@torch.jit.script
def keep_the_forks_thread(nanoseconds: int) -> int:
    return torch.jit.fork(keep_the_thread, nanoseconds).wait()


def ordered(store):
    """Calls the endpoint with tickets of its own."""
    torch.set_num_interop_threads(1)
    contract = compile_interface(Log).contract
    scripted = scripting.scripted_module(LogModule(), contract.interface)
    handle = modules.add(contract, scripted, torch.device("cpu"), Ways(in_turn=True))
    add = _torch.find_function(contract.endpoints["add"])

    def tickets(stream, count):
        generator = torch.Generator().manual_seed(stream)
        drawn = [
            int(torch.empty([1], dtype=torch.long).random_(turns.TICKETS, generator=generator)) for _ in range(count)
        ]
        return [stream << turns.FLAG_BITS | ticket << turns.TICKET_SHIFT for ticket in drawn]

    def call(numbers):
        """Sends calls, each of which comes after those before it; what was seen, and whether one of them waited."""
        began, before = time.monotonic(), len(scripted.seen)
        threads = []
        for number, flags in numbers:
            threads.append(threading.Thread(target=add, args=(handle, number, flags)))
            threads[-1].start()
            time.sleep(0.05)
        for thread in threads:
            thread.join()
        return scripted.seen[before:], time.monotonic() - began > turns.PATIENCE / 1e9

    in_order = list(enumerate(tickets(7, 6)))
    say(*call(in_order[:3]))
    say("reversed", *call(in_order[5:2:-1]))
    lost = list(enumerate(tickets(8, 9)))
    say("lost", *call([lost[0], lost[5], lost[4], lost[2]]))
    say("late", *call([lost[3], lost[1]]))
    say("after late ones", *call([lost[8], lost[7], lost[6]]))
    say("not of the stream", *call([(9, 9 << turns.FLAG_BITS | 5 << turns.TICKET_SHIFT), (10, tickets(9, 1)[0])]))
    say("without", *call([(1, 0), (2, 0)]))
    delayed = list(enumerate(tickets(10, 2)))
    seen, early = len(scripted.seen), threading.Thread(target=add, args=(handle, *delayed[1]))
    early.start()
    time.sleep(0.05)
    slow = threading.Thread(target=keep_the_forks_thread, args=(1_500_000_000,))
    slow.start()
    time.sleep(0.1)
    add(handle, *delayed[0])  # waits in the queue all the while
    early.join()
    slow.join()
    say("behind a slow call", scripted.seen[seen:])
    used, idle = list(enumerate(tickets(1, 400))), list(enumerate(tickets(2, 300)))
    for number, flags in used[:200]:
        add(handle, number, flags)
        add(handle, *idle[number])
    for stream in range(1000, 1000 + 2 * turns.MOST_STREAMS):
        add(handle, 0, tickets(stream, 1)[0])
        if stream % 100 == 0:
            add(handle, *used[200 + (stream - 1000) // 100])
    began, before = time.monotonic(), len(scripted.seen)
    add(handle, *used[221])  # never forgotten, since it was used
    say("used", scripted.seen[before:], *call([used[223], used[222]]))
    add(handle, *idle[200])  # forgotten, and goes on at once
    say("forgotten", *call([idle[202], idle[201]]), time.monotonic() - began > turns.PATIENCE / 1e9)


def test_tickets(tmp_path):
    assert said(play(tmp_path, ordered)[0]) == [
        "[0, 1, 2] False",
        "reversed [3, 4, 5] False",
        "lost [0, 2, 4, 5] True",
        "late [3, 1] False",
        "after late ones [6, 7, 8] False",
        "not of the stream [9, 10] False",
        "without [1, 2] False",
        "behind a slow call [0, 1]",
        "used [221] [222, 223] False",
        "forgotten [201, 202] False False",
    ]
