"""Replicas are called as one, while owners are killed, stopped, withdrawn, and come back."""

import contextlib
import copy
import gc
import signal
import threading
import time

import pytest
import torch
import torch.distributed.rpc as rpc
from torch import Tensor

import torchremote as tr
from torchremote import _torch
from torchremote.caller.replicas import team as teams
from torchremote.caller.replicas.team import team_of
from torchremote.errors import CallTimeoutError, NotInGroupError, ServedNameError, StaleStubError, WireError
from torchremote.jit.runtime.batches import MOST_CALLS

from .. import zoo
from ..waiting import until
from . import roles
from .nursery import in_a_group, raises_within
from .test_follow import X
from .test_idempotent import Patient

OWNERS = ["p0", "p1", "p2"]


def start(nursery, count=2, **options):
    """Starts owners whose encoders give values of their own: owner N has the seed N."""
    owners = {where: nursery.start(where, tr.group_address(), **options) for where in OWNERS[:count]}
    for where, owner in owners.items():
        owner.joined()
        serve(where)
    return owners


def serve(where):
    rpc.rpc_sync(where, roles.serve_encoder, (OWNERS.index(where),))


def from_which(result):
    """The owner whose module gave a result."""
    (number,) = [seed for seed in range(len(OWNERS)) if torch.equal(result, roles.expected(X, seed))]
    return OWNERS[number]


def comes_back(replicas, where):
    until(lambda: f"{where} (0 in flight)" in repr(replicas))


@in_a_group()
def test_calls_go_to_the_one_with_the_fewest_in_flight_and_batches_to_all(nursery):
    start(nursery, 3)
    replicas = tr.connect(OWNERS, zoo.Encoder, "encoder")
    assert {from_which(replicas(X)) for _ in range(5)} <= set(OWNERS)
    calls = [replicas.forward_async(X) for _ in range(300)]
    counts = {where: [from_which(call.wait()) for call in calls].count(where) for where in OWNERS}
    assert min(counts.values()) > 30, counts
    copies = [tr.with_timeout(replicas, 20) for _ in range(300)]
    calls = [copied.forward_async(X) for copied in copies]
    counts = {where: [from_which(call.wait()) for call in calls].count(where) for where in OWNERS}
    assert min(counts.values()) > 30, counts
    results = replicas.forward_many([(X,)] * 10)
    assert sorted([from_which(result) for result in results].count(where) for where in OWNERS) == [3, 3, 4]
    assert {from_which(result) for result in replicas.forward_many_async([(X,)] * 3).wait()} == set(OWNERS)
    assert len(replicas.forward_many([(X,)])) == 1
    assert replicas.forward_many([]) == []
    until(lambda: repr(replicas).count("(0 in flight)") == 3)


@in_a_group()
def test_one_that_is_lost_is_left_out_and_comes_back(nursery):
    owners = start(nursery)
    replicas = tr.connect(OWNERS[:2], zoo.Encoder, "encoder")
    model = torch.nn.Sequential(replicas).eval()
    for where in OWNERS[:2] * 2:
        owners[where].kill()
        until(lambda where=where: where not in roles.members())
        other = OWNERS[1 - OWNERS.index(where)]
        for _ in range(3):
            assert from_which(replicas(X)) == other
            assert from_which(replicas.forward_async(X).wait()) == other
            assert from_which(replicas.forward_remote(X).to_here()) == other
            assert {from_which(result) for result in replicas.forward_many([(X,)] * 4)} == {other}
        assert f"{where} (left out: " in repr(replicas)
        model.eval()
        owners[where] = nursery.join(where)
        time.sleep(0.3)  # it is looked for meanwhile, and does not serve the name yet
        serve(where)
        comes_back(replicas, where)
        assert not rpc.rpc_sync(where, roles.training)
        assert {from_which(result) for result in replicas.forward_many([(X,)] * 4)} == set(OWNERS[:2])


@in_a_group()
def test_a_call_that_was_lost_goes_to_another_one_if_its_method_is_idempotent(nursery):
    owners = start(nursery)
    patient = tr.connect(OWNERS[:2], Patient, "encoder", timeout=60)
    calls = [
        lambda: [patient(X)],
        lambda: [patient.forward_async(X).wait()],
        lambda: patient.forward_many([(X,)] * 4),
        lambda: patient.forward_many([(X,)] * 4, return_exceptions=True),
    ]
    for call in calls:
        where = from_which(patient(X))
        other = OWNERS[1 - OWNERS.index(where)]
        owners[where].kill()  # nobody has noticed yet
        assert {from_which(result) for result in call()} == {other}
        owners[where] = nursery.join(where)
        serve(where)
        comes_back(patient, where)
    for owner in OWNERS[:2]:
        rpc.rpc_sync(owner, roles.serve_other, ("slow",))
    slow = tr.connect(OWNERS[:2], zoo.Sleeper, "slow")
    lost = slow.forward_async(X, 1 << 40)
    (where,) = (owner for owner in OWNERS[:2] if f"{owner} (1 in flight)" in repr(slow))
    owners[where].kill()
    with pytest.raises(WireError, match="whether the method ran is not known"):
        lost.wait()
    assert slow(X, 1) is not None


@in_a_group()
def test_a_call_that_was_refused_goes_to_another_one(nursery):
    start(nursery)
    replicas = tr.connect(OWNERS[:2], zoo.Encoder, "encoder")
    for call in (replicas, lambda x: replicas.forward_async(x).wait(), lambda x: replicas.forward_many([(x,)] * 2)[0]):
        where = from_which(replicas(X))
        tr.withdraw("encoder", where)
        assert from_which(call(X)) != where
        serve(where)
        comes_back(replicas, where)


@in_a_group()
def test_a_call_that_was_refused_goes_to_the_same_one_if_that_came_back_meanwhile(nursery):
    start(nursery, 1)
    replicas = tr.connect(OWNERS[:1], zoo.Encoder, "encoder")
    leave_out = teams.Team.leave_out

    def comes_back_at_once(self, replica, stub, failure):
        leave_out(self, replica, stub, failure)
        until(lambda: replica.methods)

    teams.Team.leave_out = comes_back_at_once
    for call in (replicas, lambda x: replicas.forward_async(x).wait(), lambda x: replicas.forward_many([(x,)] * 2)[0]):
        tr.withdraw("encoder", OWNERS[0])
        serve(OWNERS[0])
        assert from_which(call(X)) == OWNERS[0]


class Counting(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = torch.zeros(1)

    def forward(self, x: Tensor, rounds: int) -> Tensor:
        self.calls.add_(1)
        for _ in range(rounds):
            x = x + 1
        return x


_counting = []  # on an owner


def serve_counting():
    _counting.append(Counting())
    tr.serve(_counting[-1], zoo.Sleeper, "counting")


def counted():
    return int(_counting[-1].calls)


@in_a_group()
def test_a_batch_of_several_messages_that_is_refused_within_goes_to_no_other_one(nursery):
    start(nursery)
    for where in OWNERS[:2]:
        rpc.rpc_sync(where, serve_counting)
    replicas = tr.connect(OWNERS[:2], zoo.Sleeper, "counting", timeout=60)
    share = MOST_CALLS + 1  # for each replica, in two messages
    results = replicas.forward_many_async([(X, 500)] * (2 * share))
    until(lambda: rpc.rpc_sync(OWNERS[0], counted) > 0)
    tr.withdraw("counting", OWNERS[0])
    with pytest.raises(StaleStubError, match="went in several messages, so some may have run$"):
        results.wait()
    assert [rpc.rpc_sync(where, counted) for where in OWNERS[:2]] == [MOST_CALLS, share]


@in_a_group()
def test_when_none_lives_a_call_says_so_or_waits(nursery):
    owners = start(nursery)
    replicas = tr.connect(OWNERS[:2], zoo.Encoder, "encoder", timeout=2)
    patient = tr.connect(OWNERS[:2], Patient, "encoder", timeout=60)
    brief = tr.with_timeout(patient, 1)
    for owner in owners.values():
        owner.kill()
    until(lambda: roles.members() == ["main"])
    for call in (replicas, replicas.forward_async, lambda x: replicas.forward_many([(x,)])):
        with pytest.raises(NotInGroupError, match=r"Encoder 'encoder' on p0 \(left out: .*p1 \(left out: .*no replica"):
            call(X)
    with pytest.raises(NotInGroupError) as failed:
        tr.with_timeout(replicas, 5)(X)
    assert "was not asked" not in str(failed.value)
    start_at = time.monotonic()
    with pytest.raises(NotInGroupError):
        brief(X)
    with pytest.raises(NotInGroupError):
        brief.forward_async(X).wait()
    assert 1.9 < time.monotonic() - start_at < 6
    waiting = [patient.forward_async(X), patient.forward_many_async([(X,)] * 3)]
    nursery.join("p1")
    serve("p1")
    assert from_which(patient(X)) == "p1"
    assert from_which(waiting[0].wait()) == "p1"
    assert {from_which(result) for result in waiting[1].wait()} == {"p1"}


@in_a_group()
def test_one_that_does_not_answer_is_the_last_to_be_called(nursery):
    owners = start(nursery)
    replicas = tr.connect(OWNERS[:2], zoo.Encoder, "encoder", timeout=1)
    where = from_which(replicas(X))
    owners[where].stop()
    with pytest.raises(CallTimeoutError):
        replicas(X)
    assert f"{where} (0 in flight, late)" in repr(replicas)
    for _ in range(20):
        assert from_which(replicas(X)) != where
        assert from_which(tr.with_timeout(replicas, 1)(X)) != where
    assert len(replicas.forward_many([(X,)] * 4)) == 4
    owners[where].signal(signal.SIGCONT)
    comes_back(replicas, where)
    assert from_which(replicas(X)) == where


@in_a_group()
def test_one_that_a_copy_found_late_comes_back_when_that_copy_is_gone(nursery):
    owners = start(nursery)
    replicas = tr.connect(OWNERS[:2], zoo.Encoder, "encoder", timeout=1)
    where = from_which(replicas(X))
    owners[where].stop()
    with pytest.raises(CallTimeoutError):
        tr.with_timeout(replicas, 0.5)(X)
    gc.collect()
    assert f"{where} (0 in flight, late)" in repr(replicas)
    owners[where].signal(signal.SIGCONT)
    assert from_which(replicas(X)) != where
    comes_back(replicas, where)


@in_a_group()
def test_what_cannot_be_reached_at_first_is_looked_for(nursery):
    start(nursery, 1)
    with pytest.raises(tr.errors.PlaceError, match="there is no worker 'p1'"):
        tr.connect(["p1", "p2"], zoo.Encoder, "encoder")
    replicas = tr.connect(OWNERS[:2], zoo.Encoder, "encoder")
    assert from_which(replicas(X)) == "p0"
    assert "p1 (left out: its worker is not in the group)" in repr(replicas)
    nursery.join("p1")
    with pytest.raises(ServedNameError, match="waited for it for 0.2 s"):
        tr.connect(["p1", "p2"], zoo.Encoder, "encoder", wait=0.2)
    threading.Timer(0.5, serve, ("p1",)).start()
    late = tr.connect(["p1", "p2"], zoo.Encoder, "encoder", wait=20)
    assert from_which(late(X)) == "p1"
    comes_back(replicas, "p1")
    with raises_within(5, ServedNameError, match="'other': not served by the worker 'p0'"):
        tr.connect(["p2", "p0"], zoo.Encoder, "other")


@in_a_group()
def test_replicas_that_are_made_or_sent_while_one_is_away_find_it(nursery):
    owners = start(nursery)
    replicas = tr.connect(OWNERS[:2], zoo.Encoder, "encoder").eval()
    owners["p1"].kill()
    until(lambda: "p1" not in roles.members())
    made = [
        tr.with_timeout(replicas, 60),
        copy.copy(replicas),
        copy.deepcopy(replicas),
        rpc.rpc_sync("p0", copy.copy, (replicas,)),  # it is sent twice
    ]
    for one in made:
        assert from_which(one(X)) == "p0"
    tr.with_timeout(replicas, 60)(X)  # is let go while it looks
    del replicas  # it would set the mode itself
    nursery.join("p1")
    serve("p1")
    for one in made:
        comes_back(one, "p1")
        assert {from_which(result) for result in one.forward_many([(X,)] * 4)} == {"p0", "p1"}
    assert not rpc.rpc_sync("p1", roles.training)


# -- what a replica has in flight


@in_a_group()
def test_where_no_thread_can_be_started_calls_end_and_a_later_one_has_the_replica_looked_for(nursery):
    owners = start(nursery)
    replicas = tr.connect(OWNERS[:2], zoo.Encoder, "encoder", timeout=20)
    real = threading.Thread.start

    def start_no_search(thread):
        if thread.name == "torchremote-replica":
            raise RuntimeError("can't start new thread")
        real(thread)

    threading.Thread.start = start_no_search
    owners["p0"].stop()
    calls = [replicas.forward_async(X) for _ in range(2)]  # one to each
    owners["p0"].kill()
    failed = 0
    for call in calls:
        until(call.done)
        try:
            assert from_which(call.wait()) == "p1"
        except WireError:
            failed += 1
    assert failed == 1
    until(lambda: roles.members() == ["main", "p1"])
    threading.Thread.start = real
    nursery.join("p0")
    serve("p0")
    assert "left out" in repr(replicas)
    assert from_which(replicas(X)) == "p1"
    comes_back(replicas, "p0")


@in_a_group()
def test_ctrl_c_between_two_instructions_leaves_nothing_in_flight(nursery):
    start(nursery)
    replicas = tr.connect(OWNERS[:2], zoo.Encoder, "encoder")
    when_done, many = _torch.when_done, [(X,)] * 4

    def interrupted(*_):
        raise KeyboardInterrupt

    _torch.when_done = interrupted
    for call in (lambda: replicas.forward_async(X), lambda: replicas.forward_many(many)):
        with pytest.raises(KeyboardInterrupt):
            call()
        assert repr(replicas).count("(0 in flight)") == 2
    _torch.when_done = when_done
    team = team_of(replicas)
    taken = team.take(3)
    assert "(3 in flight)" in repr(replicas)
    del taken
    assert repr(replicas).count("(0 in flight)") == 2
    taken = team.take(3)
    for _ in range(2):
        taken.give_back()
        assert repr(replicas).count("(0 in flight)") == 2


@in_a_group()
def test_a_search_that_a_bug_ended_is_begun_again(nursery):
    start(nursery, 1)
    ask_again, ended = teams.Team._ask_again, []

    def raising(self, replica):
        teams.Team._ask_again = ask_again
        ended.append(replica)
        raise LookupError("a bug")

    teams.Team._ask_again = raising
    threading.excepthook = lambda given: None  # it would be printed
    replicas = tr.connect(OWNERS[:2], zoo.Encoder, "encoder")
    until(lambda: ended)
    nursery.join("p1")
    serve("p1")
    assert from_which(replicas(X)) == "p0"
    comes_back(replicas, "p1")


@in_a_group()
def test_ctrl_c_in_a_connect_keeps_no_thread_of_rpc(nursery):
    start(nursery)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    enter, interrupted = threading.Condition.__enter__, []

    def interrupts(condition):
        entered = enter(condition)  # it has the lock
        if threading.current_thread() is threading.main_thread() and not interrupted:
            interrupted.append(True)
            signal.raise_signal(signal.SIGINT)
        return entered

    threading.Condition.__enter__ = interrupts
    try:
        with contextlib.suppress(KeyboardInterrupt):
            tr.connect(OWNERS[:2], zoo.Encoder, "encoder")
    finally:
        threading.Condition.__enter__ = enter
    assert tr.connect(OWNERS[:2], zoo.Encoder, "encoder")(X).shape == X.shape
    tr.leave()  # waits for RPC's threads
