"""Signals while the main thread waits for another worker: Ctrl-C ends the waiting, and other handlers run during it."""

import asyncio
import os
import resource
import signal
import sys
import tempfile
import threading
import time

import pytest
import torch
import torch.distributed.autograd as dist_autograd
import torch.distributed.rpc as rpc
from torch import Tensor, nn

import torchremote as tr
from torchremote import _torch, native
from torchremote.caller.calls import batches, references, single
from torchremote.caller.calls.following import METHODS
from torchremote.caller.messages import exchange, waiting
from torchremote.caller.messages.exchange import send, settle
from torchremote.errors import (
    CallTimeoutError,
    CreationError,
    NotInGroupError,
    ServedNameError,
    StaleStubError,
    WireError,
)

from .. import zoo
from ..group import play
from ..waiting import hosted, stop, until

NAP, SOON, LATE = 3.0, 0.2, 1.0  # seconds: of a call, until the signal, and until it must have had an effect


@tr.remote_scriptable
class Naps:
    def nap(self, seconds: float) -> int: ...
    def twice(self, x: Tensor) -> Tensor: ...


@tr.remote_scriptable
class Idempotent:
    @tr.idempotent
    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor: ...


class Napping(nn.Module):
    def __init__(self, seconds: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        time.sleep(seconds)

    @torch.jit.ignore
    def sleep(self, seconds: float) -> int:
        time.sleep(seconds)
        return 1

    def nap(self, seconds: float) -> int:
        return self.sleep(seconds)

    def twice(self, x: Tensor) -> Tensor:
        return 2 * self.weight * x

    def forward(self, seconds: float) -> int:
        return self.sleep(seconds)


def send_soon(number, times=1):
    """Has the signal sent to this process, `times` times."""

    def send():
        for _ in range(times):
            time.sleep(SOON)
            os.kill(os.getpid(), number)

    threading.Thread(target=send).start()


def interrupted(ask, error=KeyboardInterrupt, number=signal.SIGINT):
    """Asks for something that takes long, and is interrupted."""
    send_soon(number)
    start = time.monotonic()
    with pytest.raises(error):
        ask()
    late = time.monotonic() - start - SOON
    assert late < LATE, f"{late:.1f} s after the signal"


class Raised(RuntimeError):
    """As torch's errors are, which become others."""


def raising(number, frame):
    raise Raised


def owning(store):
    store.set("pid", str(os.getpid()))


# -- Ctrl-C


def calling(store):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stub = tr.create("owning", Naps, Napping)
    plain = tr.RemoteModule("owning", Napping)
    for ask in (
        lambda: stub.nap(NAP),
        lambda: stub.nap_async(NAP).wait(),
        lambda: stub.nap_many([(NAP,)]),
        lambda: stub.nap_many_async([(NAP,)]).wait(),
        lambda: stub.nap_many([(NAP,), (0.0,)], return_exceptions=True),
        lambda: tr.with_timeout(stub, 0).nap(NAP),
        lambda: plain.forward(NAP),
    ):
        interrupted(ask)
        assert stub.nap(0.0) == 1
    before = hosted("owning")
    for ask in (
        lambda: tr.create("owning", Naps, Napping, args=(NAP,), name="interrupted"),
        lambda: tr.create("owning", Naps, Napping, args=(NAP,)),
        lambda: tr.create_many(["owning"] * 2, Naps, Napping, args=[(0.0,), (NAP,)], names=["interrupted", "other"]),
        lambda: tr.create_async("owning", Naps, Napping, args=(NAP,)).wait(),
    ):
        interrupted(ask)
    pending = tr.create_async("owning", Naps, Napping, args=(NAP,))
    interrupted(pending.wait)
    assert pending.wait().nap(0.0) == 1  # it is not cancelled, and can be waited for again
    del pending
    until(lambda: hosted("owning") == before)
    for name in ("interrupted", "other"):
        with pytest.raises(tr.errors.ServedNameError):
            tr.connect("owning", Naps, name)


def test_ctrl_c_ends_calls_and_creations(tmp_path):
    """The orderly shutdown at the end waits for all calls, and so says that none was lost."""
    play(tmp_path, owning, calling, threads=32)


def asking(store):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    owner = int(store.get("pid"))
    stub, plain = tr.create("owning", Naps, Napping), tr.RemoteModule("owning", Napping)
    stop(owner)
    for ask in (
        tr.at_owner(stub).state_dict,
        tr.at_owner(stub).parameters,
        lambda: tr.connect("owning", Naps, "nothing"),
        lambda: tr.stats("owning"),
        plain.remote_parameters,
        lambda: stub.twice(torch.ones(2)),
    ):
        interrupted(ask)
    os.kill(owner, signal.SIGCONT)
    assert stub.twice(torch.ones(2)).tolist() == [2.0, 2.0]
    assert len(tr.at_owner(stub).parameters()) == 1


def test_ctrl_c_ends_questions_to_an_owner_that_is_stopped(tmp_path):
    play(tmp_path, owning, asking)


def training(store):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stub = tr.create("owning", Naps, Napping)
    x = torch.ones(2, requires_grad=True)
    with dist_autograd.context() as context:
        y = stub.twice(x)
        interrupted(lambda: stub.nap(NAP))
        dist_autograd.backward(context, [(y + stub.twice(x)).sum()])
        assert dist_autograd.get_gradients(context)[x].tolist() == [4.0, 4.0]


def test_a_context_goes_on_after_ctrl_c(tmp_path):
    play(tmp_path, owning, training)


def being_created(store):
    """A remote module of this worker itself is called while it is created."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    module = tr.RemoteModule("being_created", Napping, (NAP,))
    interrupted(lambda: module.forward(0.0))
    interrupted(module.remote_parameters)
    assert module.forward(0.0) == 1


def test_ctrl_c_ends_the_wait_for_a_module_of_this_worker(tmp_path):
    play(tmp_path, being_created)


def entering(names, then):
    """Makes a tracer that does `then`, once, where Python enters one of these functions: handlers run there, too."""
    entered = []

    def trace(frame, event, arg):
        if frame.f_code.co_name in names and "torchremote" in frame.f_code.co_filename and not entered:
            entered.append(frame.f_code.co_name)
            then()

    trace.entered = entered
    return trace


@pytest.fixture
def ctrl_c():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.raise_signal(signal.SIGINT)
    sys.settrace(None)
    signal.signal(signal.SIGINT, before)


CALLS = {
    "async": lambda stub: stub.forward_async(torch.ones(1, 8)),
    "many_async": lambda stub: stub.forward_many_async([(torch.ones(1, 8),)] * 2),
    "each": lambda stub: stub.forward_many_async([(torch.ones(1, 8),)] * 2, return_exceptions=True),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("kind", ["stub", "idempotent", "replicas"])
def test_ctrl_c_is_not_lost_where_the_answer_is_there_already(owner, ctrl_c, call, kind):
    """The callback runs in the main thread then, and torch only logs what a callback raises."""
    interface = Idempotent if kind == "idempotent" else zoo.Encoder
    stub = tr.create(owner, interface, zoo.LinearEncoder, name="encoder", if_exists="replace")
    if kind == "replicas":
        stub = tr.connect([owner], interface, "encoder")
    call(stub).wait()
    trace = entering({"settled", "done", "_take"}, ctrl_c)

    def wait_for_answers(frame, event, arg):
        sent = frame.f_locals.get("futures") or [frame.f_locals.get("answer")]
        for future in sent:
            if isinstance(future, torch._C.Future):
                until(future.done)
        return wait_for_answers

    def traced(frame, event, arg):
        trace(frame, event, arg)
        in_calls = "/torchremote/caller/" in frame.f_code.co_filename
        return wait_for_answers if in_calls and frame.f_code.co_name in ("settle_later", "when_all", "call") else None

    sys.settrace(traced)
    try:
        call(stub)
    except KeyboardInterrupt:
        sys.settrace(None)
        assert trace.entered
    else:  # the answer came later, or no Python runs for it
        sys.settrace(None)
        assert not trace.entered
    if kind == "replicas":
        until(lambda: "(0 in flight)" in repr(stub))
    tr.withdraw("encoder", owner)


@pytest.mark.parametrize("seen", [True, False], ids=["complete", "complete only when it is added"])
def test_what_is_to_be_done_with_a_future_is_done(ctrl_c, monkeypatch, seen):
    future, did = torch.futures.Future(), []
    future.set_result(1)
    if not seen:
        answers = iter([False])
        monkeypatch.setattr(_torch.rpc, "is_done", lambda future: next(answers, True))
    sys.settrace(entering({"_take"}, ctrl_c))
    try:
        _torch.when_done(future, did.append)
    except KeyboardInterrupt:
        sys.settrace(None)
        assert seen, "torch only logs what a callback raises"
        assert did == []
    else:
        sys.settrace(None)
        assert not seen
        assert did == [future]


# -- other signals


def handling(store):
    stub = tr.create("owning", Naps, Napping)
    stub.nap(0.0)

    def raise_here(number, frame):
        raise Raised

    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, raise_here)
        interrupted(lambda: stub.nap(NAP), Raised, number)
        interrupted(lambda: tr.create("owning", Naps, Napping, args=(NAP,)), Raised, number)

    ran = []
    signal.signal(signal.SIGUSR2, lambda number, frame: ran.append(time.monotonic()))
    send_soon(signal.SIGUSR2, times=3)
    assert stub.nap(1.5) == 1
    end = time.monotonic()
    assert len(ran) == 3
    assert all(end - at > 0.5 for at in ran), "a handler ran after the waiting, and not during it"

    # A handler that calls, too.
    signal.signal(signal.SIGUSR2, lambda number, frame: ran.append(stub.twice(torch.ones(2)).sum().item()))
    send_soon(signal.SIGUSR2, times=2)
    assert stub.nap(1.0) == 1
    assert ran[3:] == [4.0, 4.0]

    # One that does not raise the first time, and then does.
    signals = iter([False, True])
    signal.signal(signal.SIGUSR2, lambda number, frame: raise_here(number, frame) if next(signals, False) else None)
    send_soon(signal.SIGUSR2, times=4)  # two that are pending at once are one
    start = time.monotonic()
    with pytest.raises(Raised):
        stub.nap(NAP)
    assert time.monotonic() - start < 2 * SOON + LATE


def test_handlers_run_during_the_waiting(tmp_path):
    play(tmp_path, owning, handling)


def asyncio_with_usr1(ran):
    """Has the running event loop note SIGUSR1. Returns the descriptor by which it learns of signals."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, ran.append, "usr1")
    own = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(own)
    return own


def with_asyncio(store):
    stub, ran = tr.create("owning", Naps, Napping), []

    async def run():
        own = asyncio_with_usr1(ran)
        send_soon(signal.SIGUSR1)
        assert stub.nap(1.0) == 1
        assert signal.set_wakeup_fd(own) == own
        await asyncio.sleep(0.2)  # the loop learns of the signal that arrived while it stood still
        assert ran == ["usr1"]
        send_soon(signal.SIGUSR1)
        await asyncio.sleep(SOON + LATE)
        assert ran == ["usr1", "usr1"]

    asyncio.run(run())
    assert signal.set_wakeup_fd(-1) == -1
    assert stub.nap(0.0) == 1


def test_asyncio_gets_its_signals(tmp_path):
    play(tmp_path, owning, with_asyncio)


def with_asyncio_and_a_handler_that_calls(store):
    stub, ran = tr.create("owning", Naps, Napping), []

    async def run():
        own = asyncio_with_usr1(ran)
        signal.signal(signal.SIGUSR2, lambda number, frame: ran.append(stub.nap(0.5)))
        send_soon(signal.SIGUSR2)
        assert stub.nap(1.0) == 1
        assert ran == [1]
        assert signal.set_wakeup_fd(own) == own
        os.kill(os.getpid(), signal.SIGUSR1)
        for _ in range(200):
            await asyncio.sleep(0.1)
            if len(ran) > 1:
                break
        assert ran == [1, "usr1"]

    asyncio.run(run())
    assert signal.set_wakeup_fd(-1) == -1


def test_asyncio_gets_its_signals_after_a_handler_that_calls(tmp_path):
    play(tmp_path, owning, with_asyncio_and_a_handler_that_calls)


def with_a_short_call(store):
    """Signals that arrive during calls that are shorter than the patience."""
    stub, ran = tr.create("owning", Naps, Napping), []
    signal.signal(signal.SIGALRM, lambda number, frame: ran.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    for n in range(2000):
        assert stub.twice(torch.full((2,), float(n))).tolist() == [2.0 * n] * 2
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert ran
    assert native.available() or waiting._listener.gate is None


def test_a_thousand_signals_a_second(tmp_path):
    play(tmp_path, owning, with_a_short_call)


# -- a process that has reached a limit


def with_many_files(store):
    """The pipe's descriptors are above those that `select` takes."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4096), most))
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    stub = tr.create("owning", Naps, Napping)
    interrupted(lambda: stub.nap(NAP))
    assert stub.nap(0.0) == 1
    for file in files:
        os.close(file)


def test_ctrl_c_ends_calls_of_a_process_with_many_open_files(tmp_path):
    play(tmp_path, owning, with_many_files)


def without_a_thread(store):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    start, makes = threading.Thread.start, []

    def refuse(thread):
        if thread.name == "torchremote-signals":
            makes.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    threading.Thread.start = refuse
    stub = tr.create("owning", Naps, Napping)
    stub.nap(0.0)
    files = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        assert stub.nap(0.0) == 1
    interrupted(lambda: stub.nap(NAP))
    assert stub.nap(0.0) == 1
    assert len(os.listdir("/proc/self/fd")) == files
    assert bool(makes) != native.available()
    threading.Thread.start = start
    assert stub.nap(0.0) == 1
    assert (waiting._listener is None) == native.available()
    interrupted(lambda: stub.nap(NAP))


def test_ctrl_c_ends_calls_of_a_process_that_can_start_no_thread(tmp_path):
    play(tmp_path, owning, without_a_thread)


# -- what stays


def test_other_threads_wait_as_before(owner):
    stub, results = tr.create(owner, zoo.Encoder, zoo.LinearEncoder), []
    before = waiting._listener
    thread = threading.Thread(target=lambda: results.append(stub(torch.ones(1, 8))))
    thread.start()
    thread.join()
    assert len(results) == 1
    assert waiting._listener is before


def test_errors_are_the_same(owner):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    told, pause = [], threading.Event()

    def ask():
        with pytest.raises(tr.errors.RemoteError) as raised:
            stub(torch.ones(1, 3))
        told.append(str(raised.value))
        pause.set()

    threading.Thread(target=ask).start()
    pause.wait(20)
    ask()
    assert told[0] == told[1]


def test_a_forked_child_has_a_listener_of_its_own(owner):
    tr.create(owner, zoo.Encoder, zoo.LinearEncoder)(torch.ones(1, 8))
    assert (waiting._listener is None) == native.available()  # with the native part, nobody has to listen
    pipe = [] if native.available() else [waiting._begun._reading, waiting._begun.writing]
    child = os.fork()
    if child == 0:
        os._exit(0 if waiting._listener is None and not any(map(is_open, pipe)) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert all(map(is_open, pipe))


def is_open(descriptor):
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


class Counting(nn.Module):
    """Counts its naps. During one that takes time, a process gets a signal."""

    def __init__(self, process: int):
        super().__init__()
        self.process = process
        self.count = 0

    @torch.jit.ignore
    def sleep(self, process: int, seconds: float) -> int:
        if seconds > 0:
            os.kill(process, signal.SIGUSR1)
        time.sleep(seconds)
        return 1

    def nap(self, seconds: float) -> int:
        self.count += self.sleep(self.process, seconds)
        return self.count

    def twice(self, x: Tensor) -> Tensor:
        return 2 * x


def test_what_a_handler_raises_has_no_call_sent_again(owner):
    stub, gone = (tr.create(owner, Naps, Counting, (os.getpid(),), name=name) for name in ("counts naps", "is gone"))
    gone = tr.with_timeout(gone, 0.3)
    rpc.rpc_sync(owner, tr.withdraw, ("is gone",))
    before = signal.signal(signal.SIGUSR1, lambda *_: gone.nap(0.0))
    try:
        count = stub.nap(0.0)
        for seconds in (0.03, 2 * SOON):  # C++ waits in one turn, or in several
            with pytest.raises((StaleStubError, ServedNameError), match="is gone"):
                stub.nap(seconds)
            count += 2
            assert stub.nap(0.0) == count
    finally:
        signal.signal(signal.SIGUSR1, before)
        rpc.rpc_sync(owner, tr.withdraw, ("counts naps",))


def raise_in_the_handler(error):
    """Has a signal raise an error of this library. Whose class it has says nothing of what was interrupted."""

    def handle(*_):
        raise error("of the handler")

    return signal.signal(signal.SIGUSR1, handle)


@pytest.mark.parametrize("error", [StaleStubError, NotInGroupError, WireError])
def test_what_a_handler_raises_has_no_replica_left_out_and_no_other_called(owner, error):
    tr.create(owner, Naps, Counting, (os.getpid(),), name="replica counts")
    replicas = tr.connect([owner], Naps, "replica counts", timeout=20)
    before, count = raise_in_the_handler(error), replicas.nap(0.0)
    try:
        for call in (replicas.nap, lambda seconds: replicas.nap_async(seconds).wait()):
            with pytest.raises(error, match="of the handler"):
                call(2 * SOON)
            count += 2
            assert replicas.nap(0.0) == count
    finally:
        signal.signal(signal.SIGUSR1, before)
        rpc.rpc_sync(owner, tr.withdraw, ("replica counts",))


@pytest.mark.parametrize("error", [StaleStubError, NotInGroupError])
@pytest.mark.parametrize("ending", ["_async", "_many", "_many_async", "_remote"])
def test_what_a_handler_raises_while_a_message_of_replicas_is_sent(owner, monkeypatch, error, ending):
    tr.create(owner, Naps, Counting, (os.getpid(),), name="replica is sent")
    replicas = tr.connect([owner], Naps, "replica is sent", timeout=20)
    before, count = raise_in_the_handler(error), replicas.nap(0.0)
    given = [(0.0,)] if "many" in ending else 0.0
    sends = exchange.send
    try:
        with monkeypatch.context() as patched:
            for module in (single, batches, references):
                patched.setattr(module, "send", lambda *args, **kwargs: (sends(*args, **kwargs), signalled())[0])
            with pytest.raises(error, match="of the handler"):
                getattr(replicas, f"nap{ending}")(given)
        assert replicas.nap(0.0) == count + 2
        until(lambda: "(0 in flight)" in repr(replicas))
    finally:
        signal.signal(signal.SIGUSR1, before)
        rpc.rpc_sync(owner, tr.withdraw, ("replica is sent",))


def with_errors_of_ours(store):
    """What waits for an owner that is stopped goes on neither with another try nor without the answer."""
    owner = int(store.get("pid"))
    stub = tr.create("owning", Naps, Napping, name="naps")
    replicas, model = tr.connect(["owning"], Naps, "naps"), nn.ModuleList([stub, tr.create("owning", Naps, Napping)])
    path = f"{tempfile.mkdtemp()}/model.pt"
    stub.save(path)
    stop(owner)
    for ask, errors in (
        (lambda: repr(stub), [StaleStubError]),
        (lambda: tr.connect("owning", Naps, "naps", wait=20), [ServedNameError, WireError]),
        (lambda: tr.connect(["owning"], Naps, "naps"), [ServedNameError]),
        (lambda: tr.connect(["owning"], Naps, "naps", wait=20), [WireError]),
        (tr.at_owner(stub).state_dict, [StaleStubError, NotInGroupError, CallTimeoutError]),
        (lambda: tr.create("owning", Naps, Napping, name="other"), [CreationError]),
        (lambda: tr.create_many(["owning"] * 2, Naps, Napping, return_exceptions=True), [CreationError, WireError]),
        (lambda: tr.reconnect(torch.jit.load(path)), [NotInGroupError, ServedNameError]),
        (lambda: replicas.twice(torch.ones(2)), [StaleStubError, NotInGroupError]),
        (lambda: replicas.twice_many([(torch.ones(2),)] * 2, return_exceptions=True), [WireError]),
        (replicas.train, [StaleStubError, NotInGroupError]),
        (lambda: stub.twice_many([(torch.ones(2),)] * 2, return_exceptions=True), [WireError]),
        (model.train, [StaleStubError]),
    ):
        for error in errors:
            raise_in_the_handler(error)
            send_soon(signal.SIGUSR1)
            start = time.monotonic()
            with pytest.raises(error, match=r"\Aof the handler\Z"):
                ask()
            assert time.monotonic() - start < SOON + LATE
    os.kill(owner, signal.SIGCONT)
    assert "left out" not in repr(replicas)
    assert replicas.twice(torch.ones(2)).tolist() == [2.0, 2.0]
    assert "twice_async" in stub.__dict__[METHODS]


def test_what_a_handler_raises_leaves_whatever_waits(tmp_path):
    play(tmp_path, owning, with_errors_of_ours)


class Signalled(torch.futures.Future):
    """Gets a signal where its value is taken."""

    def wait(self):
        signal.raise_signal(signal.SIGUSR1)
        return super().wait()


def signalled():
    signal.raise_signal(signal.SIGUSR1)


def settled():
    answer = Signalled()
    answer.set_result(1)
    return settle(answer, None, WireError)


@pytest.mark.parametrize("act", [lambda: send(signalled, (), {}, WireError), settled], ids=["sending", "settling"])
def test_what_a_handler_raises_there_is_no_failure_of_the_message(act):
    def handle(*_):
        raise StaleStubError("of the handler")

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with pytest.raises(StaleStubError, match="of the handler"):
            act()
    finally:
        signal.signal(signal.SIGUSR1, before)
