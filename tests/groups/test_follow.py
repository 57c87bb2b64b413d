"""Stubs of modules with a name follow it to the process that comes back."""

import gc
import signal
import threading
import time
import weakref

import pytest
import torch
import torch.distributed.rpc as rpc
from torch import Tensor

import torchremote as tr
from torchremote import native
from torchremote.caller.calls.following import METHODS, NamedStubMethods
from torchremote.caller.finding import follow
from torchremote.errors import MismatchError, NotInGroupError, StaleStubError, WireError

from .. import zoo
from ..waiting import until
from . import roles
from .nursery import in_a_group, raises_within

X = torch.randn(2, 8)


def lose(owner):
    """Kills a worker, and waits until it is taken off."""
    owner.kill()
    until(lambda: owner.name not in roles.members())


def owner_with_encoder(nursery, seed=0, name="ps", **options):
    owner = nursery.join(name, **options)
    rpc.rpc_sync(name, roles.serve_encoder, (seed,))
    return owner


def is_from(seed, result):
    return torch.equal(result, roles.expected(X, seed))


@in_a_group()
def test_the_next_call_reaches_the_module_of_the_process_that_came_back(nursery):
    nursery.join("third")
    owner = owner_with_encoder(nursery)
    stub = tr.connect("ps", zoo.Encoder, "encoder")
    rpc.rpc_sync("third", roles.connect, ("ps",))
    calls = [
        lambda: stub(X),
        lambda: stub.forward_async(X).wait(),
        lambda: stub.forward_many([(X,)])[0],
        lambda: stub.forward_many_async([(X,)]).wait()[0],
        lambda: stub.forward_many([(X,)], return_exceptions=True)[0],
        lambda: tr.with_timeout(stub, 5)(X),
        lambda: tr.at_owner(stub).state_dict() and stub(X),
    ]
    for seed, call in enumerate(calls, 1):
        lose(owner)
        with pytest.raises(
            NotInGroupError, match="Encoder.* on ps: the worker has left the group or crashed.*; start it again under"
        ):
            stub(X)
        owner = nursery.join("ps")
        for one in (stub, tr.with_timeout(stub, 5)):
            with pytest.raises(NotInGroupError, match="Encoder.* on ps: the worker is back, and does not serve 'encod"):
                one(X)
        rpc.rpc_sync("ps", roles.serve_encoder, (seed,))
        assert is_from(seed, call())
        assert is_from(seed, rpc.rpc_sync("third", roles.call, (X,)))


@in_a_group()
def test_a_call_that_was_on_its_way_while_the_owner_came_back(nursery):
    owner = owner_with_encoder(nursery)
    stub = tr.connect("ps", zoo.Encoder, "encoder")
    methods = stub.__dict__[METHODS]
    send = methods["forward_async"]

    def send_late(*args):
        lose(owner)
        nursery.join("ps")
        return send(*args)

    methods["forward_async"] = send_late  # until the stub knows that its owner is lost
    with pytest.raises(NotInGroupError, match="Encoder.* on ps: the worker is back, and does not serve 'encoder'"):
        stub(X)
    rpc.rpc_sync("ps", roles.serve_encoder, (1,))
    assert is_from(1, stub(X))


@in_a_group()
def test_an_owner_that_is_lost_again_just_when_it_was_found(nursery):
    owner = owner_with_encoder(nursery)
    stub = tr.connect("ps", zoo.Encoder, "encoder")
    lose(owner)
    owner = owner_with_encoder(nursery, seed=1)
    keep_mode = follow.keep_mode

    def found(*args):
        follow.keep_mode = keep_mode
        lose(owner)
        nursery.join("ps")
        keep_mode(*args)

    follow.keep_mode = found
    with pytest.raises(NotInGroupError, match="Encoder.* on ps: the worker is back, and does not serve 'encoder'"):
        stub(X)
    rpc.rpc_sync("ps", roles.serve_encoder, (2,))
    assert is_from(2, stub(X))


def at_once(count, function):
    """Has so many threads call a function, and waits until all are done."""
    threads = [threading.Thread(target=function) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def found_once(nursery, owner, call):
    """Has the owner come back, and twenty threads call at once. All reach it, and one of them has asked for it."""
    lose(owner)
    owner_with_encoder(nursery, seed=1)
    rpc.rpc_sync("ps", roles.watch_connects)
    results = []
    at_once(20, lambda: results.append(call(X)))
    assert len(results) == 20
    assert all(is_from(1, result) for result in results)
    assert rpc.rpc_sync("ps", roles.connects) == 1


@in_a_group()
def test_it_is_found_once_however_many_threads_call(nursery):
    owner = owner_with_encoder(nursery)
    found_once(nursery, owner, tr.connect("ps", zoo.Encoder, "encoder"))


def stub_that_searches(nursery, timeout):
    """Makes a stub whose owner was lost, is back, and is stopped. Returns the owner, too."""
    lost = owner_with_encoder(nursery)
    stub = tr.connect("ps", zoo.Encoder, "encoder", timeout=timeout)
    lose(lost)
    with pytest.raises(NotInGroupError):
        stub(X)
    stopped = owner_with_encoder(nursery)
    stopped.stop()
    return stub, stopped


@in_a_group()
def test_threads_share_a_search_that_ends_with_its_timeout(nursery):
    stub, stopped = stub_that_searches(nursery, timeout=2)
    failed, allowed, find = [], [], NamedStubMethods.find

    def finding(methods, within, ended):
        allowed.append(within)
        find(methods, within, ended)

    def call():
        with pytest.raises(WireError) as caught:
            stub(X)
        failed.append(caught.value)

    NamedStubMethods.find = finding
    at_once(10, call)
    assert len(failed) == 10
    # Who came later searches on for what is left of its own time.
    assert len([seconds for seconds in allowed if seconds > 1]) == 1
    NamedStubMethods.find = find
    stopped.signal(signal.SIGCONT)
    assert is_from(0, tr.connect("ps", zoo.Encoder, "encoder", wait=5)(X))
    assert is_from(0, stub(X))


@in_a_group()
def test_a_module_that_does_not_fit_is_an_error_with_both_signatures(nursery):
    owner = owner_with_encoder(nursery)
    stub = tr.connect("ps", zoo.Encoder, "encoder")
    lose(owner)
    nursery.join("ps")
    rpc.rpc_sync("ps", roles.serve_other)
    with pytest.raises(MismatchError) as caught:
        stub(X)
    assert "expected: forward(x: Tensor, scale: float) -> Tensor" in str(caught.value)
    assert "the module has: forward(x: Tensor, rounds: int) -> Tensor" in str(caught.value)


@in_a_group()
def test_calls_in_the_air_end_within_the_timeout(nursery):
    owner = nursery.join("ps")
    killed = tr.create("ps", zoo.Sleeper, zoo.SlowLoop, name="slow", timeout=30)
    calls = [killed.forward_async(torch.ones(1), 1 << 40) for _ in range(3)]
    owner.kill()
    for call in calls:
        with raises_within(5, WireError):
            call.wait()
    assert all(isinstance(error, ConnectionError) for error in (WireError(), NotInGroupError()))


@in_a_group()
def test_a_module_without_a_name_cannot_be_found(nursery):
    owner = nursery.join("ps")
    stub = tr.create("ps", zoo.Encoder, zoo.LinearEncoder)
    lose(owner)
    with pytest.raises(NotInGroupError):
        stub(X)
    owner_with_encoder(nursery)
    with pytest.raises(StaleStubError):
        stub(X)


@in_a_group()
def test_threads_that_call_all_the_time_see_right_values_or_connection_errors(nursery):
    nursery.join("third")
    owner = owner_with_encoder(nursery)
    stub = tr.connect("ps", zoo.Encoder, "encoder", timeout=10)
    model = torch.jit.script(Holding(stub))
    stop, wrong, counts = threading.Event(), [], []

    def call(function):
        good = 0
        while not stop.is_set():
            try:
                result = function(X)
            except (tr.TorchRemoteError, RuntimeError) as error:
                if not isinstance(error, (ConnectionError, torch.jit.Error)) and type(error) is not RuntimeError:
                    wrong.append(error)
                time.sleep(0.001)
            else:
                good += 1
                if not is_from(0, result):
                    wrong.append(result)
        counts.append(good)

    threads = [threading.Thread(target=call, args=(function,)) for function in (stub, stub, stub, model, model)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        time.sleep(0.3)
        owner.kill()
        until(lambda: "ps" not in roles.members())
        owner = owner_with_encoder(nursery)
        until(lambda: stub(X) is not None)
        assert is_from(0, model(X))  # it calls through the same link
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert min(counts) > 100


class Holding(torch.nn.Module):
    encoder: zoo.Encoder

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder.forward(x)


@in_a_group()
def test_reconnect_has_a_scripted_model_follow(nursery):
    owner = owner_with_encoder(nursery)
    model = torch.jit.script(Holding(tr.connect("ps", zoo.Encoder, "encoder")))  # nobody else holds the stub
    for seed in (1, 2):
        lose(owner)
        with pytest.raises(tr.TorchRemoteError):
            tr.reconnect(model)
        owner = owner_with_encoder(nursery, seed)
        tr.reconnect(model)
        assert is_from(seed, model(X))


@in_a_group()
def test_many_threads_reconnect_a_model_that_many_call(nursery):
    owner = owner_with_encoder(nursery)
    model = torch.jit.script(Holding(tr.connect("ps", zoo.Encoder, "encoder", timeout=10)))
    stop, wrong, right = threading.Event(), [], []

    def call():
        while not stop.is_set():
            try:
                result = model(X)
            except RuntimeError:
                try:
                    tr.reconnect(model, wait=30)
                except tr.TorchRemoteError as error:
                    wrong.append(error)
            else:
                right.append(1)
                if not is_from(0, result):
                    wrong.append(result)

    threads = [threading.Thread(target=call) for _ in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(6):
        time.sleep(0.3)
        lose(owner)
        with pytest.raises(ConnectionError, match="Encoder on ps: the worker has left the group or crashed"):
            tr.reconnect(model)
        with pytest.raises(ConnectionError, match="waited for it for 0.1 s"):
            tr.reconnect(model, wait=0.1)
        owner = owner_with_encoder(nursery)
        tr.reconnect(model)
        before = len(right)
        until(lambda before=before: len(right) > before + 20)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_name_that_is_served_again_by_a_worker_that_lives_is_followed(owner):
    rpc.rpc_sync(owner, roles.serve_encoder, (1, "moving"))
    stub = tr.connect(owner, zoo.Encoder, "moving")
    assert is_from(1, stub(X))
    rpc.rpc_sync(owner, tr.withdraw, ("moving",))
    for call in (stub, stub, lambda x: stub.forward_async(x).wait(), lambda x: stub.forward_many([(x,)])):
        with pytest.raises(StaleStubError, match="its module is gone: it was withdrawn, or"):
            call(X)
    rpc.rpc_sync(owner, roles.serve_encoder, (2, "moving"))
    assert is_from(2, stub(X))
    rpc.rpc_sync(owner, tr.withdraw, ("moving",))
    rpc.rpc_sync(owner, roles.serve_encoder, (3, "moving"))
    if not native.available():
        with pytest.raises(StaleStubError):
            stub.forward_async(X).wait()  # it was sent; the next one finds the module
    assert is_from(3, stub.forward_async(X).wait())
    rpc.rpc_sync(owner, tr.withdraw, ("moving",))


@in_a_group()
def test_stubs_of_one_module_show_one_mode_whichever_found_it_first(nursery):
    owner = owner_with_encoder(nursery)
    follows = tr.connect("ps", zoo.Encoder, "encoder")
    lose(owner)
    owner_with_encoder(nursery)
    new = tr.connect("ps", zoo.Encoder, "encoder")
    assert is_from(0, follows(X))
    new.eval()
    assert (new.training, follows.training) == (False, False)
    follows.train()
    assert (new.training, follows.training) == (True, True)


@in_a_group()
def test_a_search_that_failed_keeps_nothing(nursery):
    lost = owner_with_encoder(nursery)
    stub = tr.connect("ps", zoo.Encoder, "encoder")
    lose(lost)
    nursery.join("ps")
    with pytest.raises(NotInGroupError, match="does not serve 'encoder'"):
        stub(X)
    methods = weakref.ref(stub.__dict__[METHODS])
    del stub
    until(lambda: gc.collect() >= 0 and methods() is None)


@in_a_group()
def test_signals_during_a_search(nursery):
    stub, stopped = stub_that_searches(nursery, timeout=20)

    def interrupt(*_):
        raise InterruptedError

    def call(*_):
        stopped.signal(signal.SIGCONT)
        answers.append(stub(X))

    answers = []
    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    with pytest.raises(InterruptedError):
        stub(X)
    signal.signal(signal.SIGALRM, call)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    assert is_from(0, stub(X))
    assert is_from(0, answers[0])
