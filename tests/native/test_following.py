"""With the native part, scripted models follow modules by themselves, and lost idempotent calls are sent again."""

import contextlib
import os
import pathlib
import resource
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import List

import pytest
import torch
import torch.distributed.autograd as dist_autograd
import torch.distributed.rpc as rpc
from torch import Tensor, nn

import torchremote as tr
from torchremote.caller.finding import failed_calls
from torchremote.caller.messages import pauses
from torchremote.link.route import address_of
from torchremote.owner import served

from .. import zoo
from ..groups import roles
from ..groups.nursery import elapsed, in_a_group, raises_within
from ..groups.test_follow import Holding, X, found_once, is_from, lose, owner_with_encoder
from ..groups.test_idempotent import Asking, Patient
from ..groups.test_refused_within import Stepping as Steps
from ..groups.test_refused_within import withdrawn_in_a_step
from ..owner.test_turns import Hidden, Log, LogModule, Recurrent, keep_the_thread
from ..waiting import until
from .test_calls import hold_gil

REFUSED = "undefined function|stale handle"
"""What an owner says that does not have the endpoint, or the module."""


def scripted(interface=zoo.Encoder, holding=Holding, name="encoder", **options):
    """A scripted model with a stub that nobody else holds."""
    return torch.jit.script(holding(tr.connect("ps", interface, name, **options)))


class Calling:
    """Threads that call a function all the time."""

    def __init__(self, call, threads=8):
        self.right, self.wrong, self._stop = 0, [], threading.Event()
        self._call = call
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def _run(self):
        while not self._stop.is_set():
            try:
                result = self._call(X)
            except Exception as error:
                self.wrong.append(error)
                time.sleep(0.05)
            else:
                self.right += 1
                if not is_from(0, result):
                    self.wrong.append(result)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads)

    def go_on(self):
        """Waits until calls have come through that began by now."""
        enough = self.right + 50
        until(lambda: self.right > enough)


@in_a_group()
def test_idempotent_calls_never_fail(nursery):
    owner = owner_with_encoder(nursery)
    with Calling(scripted(Patient, Asking, timeout=40)) as calling:
        for _ in range(5):
            calling.go_on()
            lose(owner)
            owner = owner_with_encoder(nursery)
        calling.go_on()
    assert calling.wrong == []


@in_a_group()
def test_other_calls_fail_while_the_owner_is_away_and_then_reach_the_new_module(nursery):
    owner = owner_with_encoder(nursery)
    model = scripted(timeout=20)
    for seed in range(1, 6):
        lose(owner)
        with pytest.raises(RuntimeError, match="could not find destination"):
            model(X)
        owner = nursery.join("ps")
        with pytest.raises(RuntimeError, match=REFUSED):
            model(X)
        rpc.rpc_sync("ps", roles.serve_encoder, (seed,))
        assert is_from(seed, model(X))  # the owner refused it, and it was sent again


class EveryWay(nn.Module):
    encoder: tr.remote_interface(Patient)

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> List[Tensor]:
        pending = [self.encoder.forward_async(x, 1.0) for _ in range(3)]
        many = self.encoder.forward_many([(x, 1.0), (x, 1.0)])
        later = self.encoder.forward_many_async([(x, 1.0)]).wait()
        return [one.wait() for one in pending] + many + later

    @torch.jit.export
    def start(self, x: Tensor) -> torch.jit.Future[Tensor]:
        return self.encoder.forward_async(x, 1.0)


@in_a_group()
def test_every_way_of_calling_follows(nursery):
    owner = owner_with_encoder(nursery)
    model = scripted(Patient, EveryWay, timeout=40)
    tries = watch_tries()
    for seed in range(1, 4):
        tries.clear()
        owner.kill()
        back = threading.Thread(target=come_back, args=(nursery, seed, tries))
        back.start()
        results = model(X)
        assert len(results) == 6
        assert all(is_from(seed, result) for result in results)
        back.join()
        owner = _back.pop()


_back = []


def watch_tries():
    """Lists, from here on, of each call that fails whether it has rested."""
    tries, decide = [], failed_calls._decide
    failed_calls._decide = lambda call: (tries.append(call.is_rested()), decide(call))
    return tries


def come_back(nursery, seed, tries):
    until(lambda: "ps" not in roles.members() and tries)
    _back.append(owner_with_encoder(nursery, seed))


@in_a_group()
def test_it_is_found_once_however_many_threads_call(nursery):
    owner = owner_with_encoder(nursery)
    found_once(nursery, owner, scripted(timeout=20))


@in_a_group()
def test_a_call_ends_at_its_deadline_with_its_last_error(nursery):
    owner = owner_with_encoder(nursery)
    model = scripted(Patient, EveryWay, timeout=2)
    model(X)
    lose(owner)
    tries = watch_tries()
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="could not find destination"):
        model.start(X).wait()
    assert time.monotonic() - began > 1.9
    # The pauses are 0.05 s to 0.8 s, and half of that at least. A call with more time would try more often.
    assert 4 <= len(tries) <= 10
    tries.clear()
    pending = model.start(X)
    until(lambda: tries)
    assert not pending.done()
    hold_gil(2.0)  # nobody in Python can do anything
    assert pending.done()


def test_pauses_grow_and_are_partly_random():
    for number, longest in enumerate([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]):
        some = [pauses.pause_of(number) for _ in range(50)]
        assert longest / 2 <= min(some) < max(some) <= longest
    assert pauses.pause_of(10_000) <= 2.0


@in_a_group()
def test_a_module_that_does_not_fit_is_an_error_with_both_signatures(nursery):
    owner = owner_with_encoder(nursery)
    models = [scripted(timeout=60), scripted(Patient, Asking, timeout=60)]
    lose(owner)
    nursery.join("ps")
    rpc.rpc_sync("ps", roles.serve_other)
    for model in models:
        with raises_within(5, RuntimeError) as caught:
            model(X)
        assert "expected: forward(x: Tensor, scale: float) -> Tensor" in str(caught.value)
        assert "the module has: forward(x: Tensor, rounds: int) -> Tensor" in str(caught.value)


@in_a_group()
def test_what_a_method_raises_is_raised_at_once(nursery):
    owner_with_encoder(nursery)
    model = scripted(Patient, Asking, timeout=60)
    with raises_within(5, RuntimeError, match="mat1 and mat2"):
        model(torch.ones(3, 3))


@in_a_group()
def test_a_module_without_a_name_cannot_be_found(nursery):
    owner = nursery.join("ps")
    model = torch.jit.script(Asking(tr.create("ps", Patient, zoo.LinearEncoder)))
    lose(owner)
    with raises_within(5, RuntimeError, match="could not find destination"):
        model(X)
    owner_with_encoder(nursery)
    with raises_within(5, RuntimeError, match=REFUSED):
        model(X)


@in_a_group()
def test_a_model_is_reconnected_while_it_follows_by_itself(nursery):
    owner = owner_with_encoder(nursery)
    model = scripted(Patient, Asking, timeout=40)
    with Calling(model) as calling:
        for _ in range(4):
            calling.go_on()
            lose(owner)
            threads = [threading.Thread(target=tr.reconnect, args=(model,), kwargs={"wait": 30}) for _ in range(2)]
            for thread in threads:
                thread.start()
            owner = owner_with_encoder(nursery)
            for thread in threads:
                thread.join()
    assert calling.wrong == []


class Stepping(nn.Module):
    recurrent: tr.remote_interface(Recurrent)

    def __init__(self, recurrent):
        super().__init__()
        self.recurrent = recurrent

    def forward(self, x: Tensor, calls: int) -> List[float]:
        pending = [self.recurrent.forward_async(x) for _ in range(calls)]
        return [float(one.wait()[0]) for one in pending]


def serve_recurrent():
    tr.serve(Hidden(), Recurrent, "recurrent")


@in_a_group()
def test_calls_in_turn_keep_their_order_at_the_new_module(nursery):
    owner = nursery.join("ps")
    rpc.rpc_sync("ps", serve_recurrent)
    model = scripted(Recurrent, Stepping, "recurrent", timeout=20)
    for _ in range(3):
        assert model(torch.ones(4), 300) == list(range(1, 301))
        lose(owner)
        owner = nursery.join("ps")
        rpc.rpc_sync("ps", serve_recurrent)
        assert model(torch.zeros(4), 1) == [0.0]


class Adding(nn.Module):
    log: tr.remote_interface(Log)

    def __init__(self, log):
        super().__init__()
        self.log = log

    def forward(self, calls: int) -> List[int]:
        pending = [self.log.add_async(number) for number in range(calls)]
        return [one.wait() for one in pending]


def renew(where, module, interface):
    """Serves a new module, whose handle is another one."""
    rpc.rpc_sync(where, tr.withdraw, ("renewed",))
    rpc.rpc_sync(where, serve_new, (module, interface))


def serve_new(module, interface):
    tr.serve(module(), interface, "renewed")


def test_refused_calls_in_turn_keep_their_order(owner):
    rpc.rpc_sync(owner, serve_new, (LogModule, Log))
    model = torch.jit.script(Adding(tr.connect(owner, Log, "renewed")))
    try:
        for _ in range(8):
            assert model(300) == list(range(1, 301))
            renew(owner, LogModule, Log)
    finally:
        rpc.rpc_sync(owner, tr.withdraw, ("renewed",))


class Begun(Hidden):
    """Keeps its thread for so many seconds, which it says before."""

    def __init__(self):
        super().__init__()
        self.seconds = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.seconds = float(x[0])
        self.hidden = self.hidden + keep_the_thread(int(self.seconds * 1_000_000_000))
        return x


def runs_for():
    """Returns for how many seconds the last call that began runs."""
    return served.served_module("renewed").seconds


def test_refused_calls_in_turn_do_not_wait_for_one_that_runs(owner):
    rpc.rpc_sync(owner, serve_new, (Begun, Recurrent))
    stub = tr.connect(owner, Recurrent, "renewed", timeout=60)
    try:
        stub(torch.zeros(4))
        running = stub.forward_async(torch.full([4], 8.0))
        until(lambda: rpc.rpc_sync(owner, runs_for) == 8.0)
        renew(owner, Hidden, Recurrent)
        hidden = torch.jit.script(Stepping(stub))
        assert hidden(torch.ones(4), 3) == [1.0, 2.0, 3.0]
        assert hidden(torch.ones(4), 3) == [4.0, 5.0, 6.0]
        assert not running.done()
        assert running.wait()[0] == 8.0
    finally:
        rpc.rpc_sync(owner, tr.withdraw, ("renewed",))


@in_a_group()
def test_a_call_whose_gradients_are_recorded_is_not_sent_again(nursery):
    owner = owner_with_encoder(nursery)
    model = scripted(Patient, Asking, timeout=20)
    x = X.clone().requires_grad_()
    lose(owner)
    owner_with_encoder(nursery)
    with dist_autograd.context(), raises_within(5, RuntimeError, match=REFUSED):
        model(x)
    with dist_autograd.context() as context:  # the first one had the module found
        dist_autograd.backward(context, [model(x).sum()])
        found = dist_autograd.get_gradients(context)[x]
    (expected,) = torch.autograd.grad(roles.expected(x).sum(), x)
    torch.testing.assert_close(found, expected)


@in_a_group()
def test_replicas_do_not_wait_for_the_one_that_is_lost(nursery):
    owners = {name: owner_with_encoder(nursery, name=name) for name in ("ps0", "ps1")}
    replicas = tr.connect(list(owners), Patient, "encoder", timeout=60)
    assert is_from(0, replicas(X))
    for name in owners:
        owners[name].kill()
        for _ in range(3):
            assert elapsed(lambda: is_from(0, replicas(X))) < 5
        until(lambda name=name: name not in roles.members())
        owners[name] = owner_with_encoder(nursery, name=name)
        until(lambda: "left out" not in repr(replicas))


def test_a_name_that_is_served_again_by_a_worker_that_lives_is_followed(owner):
    rpc.rpc_sync(owner, roles.serve_encoder, (1, "moving on"))
    model = torch.jit.script(Holding(tr.connect(owner, zoo.Encoder, "moving on")))
    assert is_from(1, model(X))
    for seed in (2, 3):
        rpc.rpc_sync(owner, tr.withdraw, ("moving on",))
        with pytest.raises(RuntimeError, match="stale handle"):
            model(X)
        rpc.rpc_sync(owner, roles.serve_encoder, (seed, "moving on"))
        assert is_from(seed, model(X))
    rpc.rpc_sync(owner, tr.withdraw, ("moving on",))


class Stepper(nn.Module):
    stepping: Steps

    def __init__(self, stepping):
        super().__init__()
        self.stepping = stepping

    def forward(self, x: Tensor) -> Tensor:
        return self.stepping.step(x)


def test_a_call_that_ran_is_not_taken_for_one_that_was_refused(owner, monkeypatch):
    searches = []
    monkeypatch.setattr(failed_calls, "_search", lambda address, call: searches.append(address) or call.end())
    error = withdrawn_in_a_step(owner, lambda stub: torch.jit.script(Stepper(stub))(X))
    assert "stale handle" in str(error)
    assert searches == []


def test_a_search_that_cannot_begin_ends_its_calls(owner, monkeypatch):
    def raising(*_):
        raise MemoryError

    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name="sought")
    address, ended = address_of(stub), []
    call = SimpleNamespace(end=lambda: ended.append(1), handle=lambda: 1, reached=lambda: 1)
    monkeypatch.setattr(failed_calls, "when_answered", raising)
    for count in (1, 2):  # the second is not left waiting for the first
        with pytest.raises(MemoryError):
            failed_calls._search(address, call)
        assert len(ended) == count
    tr.withdraw("sought", owner)


@in_a_group()
def test_a_callback_of_a_call_that_failed_may_wait_for_another_one(nursery):
    owner = owner_with_encoder(nursery)
    stub, patient = tr.connect("ps", zoo.Encoder, "encoder", timeout=60), scripted(Patient, Asking, timeout=60)
    results, done = [], threading.Event()

    def when_failed(_):
        try:
            results.append(patient(X))  # it is lost at first, too
        finally:
            done.set()

    owner.stop()  # so that it does not answer
    stub.forward_async(X).add_done_callback(when_failed)
    lose(owner)
    owner_with_encoder(nursery)
    assert done.wait(100)
    assert is_from(0, results[0])


@contextlib.contextmanager
def no_more_threads():
    """Has this process be at its limit: it can start no thread."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (3 << 20), limits[1]))
    done = threading.Event()
    try:
        with contextlib.suppress(RuntimeError):  # can't start new thread
            while True:  # the stacks of threads that have ended are used again
                threading.Thread(target=done.wait, daemon=True).start()
        yield
    finally:
        done.set()
        resource.setrlimit(resource.RLIMIT_AS, limits)


@in_a_group(timeout=60)
def test_calls_that_fail_end_where_no_thread_can_be_started(nursery):
    owner = owner_with_encoder(nursery)
    model, patient = scripted(timeout=40), scripted(Patient, Asking, timeout=1)
    assert is_from(0, model(X))
    assert is_from(0, patient(X))
    rpc.rpc_sync("ps", tr.withdraw, ("encoder",))
    with no_more_threads(), pytest.raises(RuntimeError, match=REFUSED):
        model(X)
    rpc.rpc_sync("ps", roles.serve_encoder)
    lose(owner)
    with no_more_threads(), pytest.raises(RuntimeError, match="could not find destination"):
        patient(X)  # nobody would end a pause
    with pytest.raises(RuntimeError, match="could not find destination"):
        patient(X)  # at its deadline, now that a thread can be started


# -- processes


def end_while_calls_wait(store):
    options = tr.rpc_options(init_method=f"file://{store}")
    rpc.init_rpc("alone", rank=0, world_size=1, rpc_backend_options=options)
    roles.serve_encoder()
    model = torch.jit.script(Asking(tr.connect("alone", Patient, "encoder", timeout=100)))
    assert is_from(0, model(X))
    tr.withdraw("encoder")
    for _ in range(4):
        threading.Thread(target=model, args=(X,), daemon=True).start()
    time.sleep(0.5)
    rpc.shutdown(graceful=False)
    print("ends")


def test_no_process_waits_for_calls_that_wait(tmp_path):
    ends = f"from {__name__} import end_while_calls_wait; end_while_calls_wait({str(tmp_path / 'store')!r})"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", ends], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "ends\n"), done.stderr


def called_back_in(store):
    """Prints the names of the threads in which callbacks ran of calls that were sent again."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    options = tr.rpc_options(init_method=f"file://{store}", shared_memory=False)
    rpc.init_rpc("alone", rank=0, world_size=1, rpc_backend_options=options)
    roles.serve_encoder()
    stub = tr.connect("alone", Patient, "encoder", timeout=60)
    assert is_from(0, stub(X))
    # Everything else has the only core first. So the answer is there before this thread goes on that has sent a call.
    (thread,) = (one for one in threading.enumerate() if one.name == "torchremote-failed-calls")
    os.sched_setscheduler(thread.native_id, os.SCHED_IDLE, os.sched_param(0))
    names = set()
    for x in (X, torch.ones(3, 3)):  # the method raises for that
        tr.withdraw("encoder")
        roles.serve_encoder()
        pending = [stub.forward_async(x) for _ in range(20)]
        for one in pending:
            one.add_done_callback(lambda _: names.add(threading.current_thread().name))
        for one in pending:
            with contextlib.suppress(RuntimeError):
                one.wait()
        until(lambda: names)
        print(*sorted(names), sep=", ")
        names.clear()
    os._exit(0)


def test_no_callback_runs_in_the_thread_that_sends_calls_again(tmp_path):
    runs = f"from {__name__} import called_back_in; called_back_in({str(tmp_path / 'store')!r})"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", runs], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert "torchremote-failed-calls" not in done.stdout


FORKING = """
import os, threading, torchremote
from tests.waiting import until
from torchremote.caller.finding import failed_calls
failed_calls.start()
until(lambda: failed_calls._thread.is_running)
child = os.fork()
if child == 0:
    fine = not failed_calls._thread.is_running
    failed_calls.start()
    until(lambda: any(thread.name == "torchremote-failed-calls" for thread in threading.enumerate()))
    os._exit(0 if fine else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_process_has_a_thread_of_its_own():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKING], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
