"""What replicas are to their user: an object with the methods of stubs, and a part of a model."""

import asyncio
import contextlib
import copy
import io
import math
import pickle
import threading
import types

import pytest
import torch
import torch.distributed.rpc as rpc
from torch.nn.parallel import replicate

import torchremote as tr
from torchremote.caller.calls.following import METHODS
from torchremote.caller.replicas import team as teams
from torchremote.caller.replicas.team import team_of
from torchremote.caller.stubs.stub import route_and_interface
from torchremote.errors import (
    ArgumentError,
    InterfaceError,
    MismatchError,
    NotInGroupError,
    NotSavableError,
    PlaceError,
    RemoteError,
    ServedNameError,
    StubError,
)

from .. import zoo
from ..waiting import holding_the_gil, until

X = torch.ones(2, 8)
BOTH = ["owner", "caller"]  # this process is a worker, too
EXPECTED = zoo.LinearEncoder.output(3, X)


@pytest.fixture(scope="module")
def replicas(owner):
    tr.create(owner, zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": 3}, name="replica")
    tr.serve(zoo.LinearEncoder(seed=3), zoo.Encoder, "replica")
    yield tr.connect(BOTH, zoo.Encoder, "replica", timeout=20)
    tr.withdraw("replica", owner)
    tr.withdraw("replica")


def test_all_forms_of_calls(replicas):
    assert torch.equal(replicas(X), EXPECTED)
    assert torch.equal(replicas.forward(x=X, scale=2.0), 2 * EXPECTED)
    assert replicas.topk_async(X, k=3).wait()[0].shape == (2, 3)
    assert torch.equal(replicas.forward_remote(X).to_here(), EXPECTED)
    assert [len(pair) for pair in replicas.topk_many([(X, 1), {"x": X}])] == [2, 2]


def test_errors_name_the_worker_and_the_call(replicas):
    with pytest.raises(RemoteError, match="Encoder.fail on (owner|caller): "):
        replicas.fail(X)
    with pytest.raises(RemoteError, match="Encoder.fail on "):
        replicas.fail_async(X).wait()
    bad = [(X,), (X,), (X,), (torch.ones(3, 3),), (X,)]
    with pytest.raises(RemoteError, match=r"Encoder.forward_many on (owner|caller): calls\[3\]: (addmm: )?mat1"):
        replicas.forward_many(bad)
    with pytest.raises(RemoteError, match=r"calls\[0\]: .*"):
        replicas.forward_many(bad[3:4] * 4)
    results = replicas.forward_many(bad, return_exceptions=True)
    assert [isinstance(result, RemoteError) for result in results] == [False, False, False, True, False]
    with pytest.raises(ArgumentError, match=r"Encoder.forward_many.calls\[1\].x: "):
        replicas.forward_many([(X,), (3,)])
    with pytest.raises(ArgumentError, match=r"Encoder.forward.x: "):
        replicas("no tensor")
    with pytest.raises(ArgumentError, match="missing"):
        replicas.forward_async()
    unsendable = torch.empty(2, 8, device="meta")
    with pytest.raises(ArgumentError, match=r"Encoder.forward_many.calls\[3\]: a meta tensor"):
        replicas.forward_many([(X,), (X,), (X,), (unsendable,)])
    until(lambda: repr(replicas).count("(0 in flight)") == 2)  # a part of the last batch was sent


def test_what_a_list_may_have(owner):
    for where in ([], ["owner", "owner"], ["owner/cpu", "caller"], [3], ["/cpu"]):
        with pytest.raises(PlaceError):
            tr.connect(where, zoo.Encoder, "replica")
    with pytest.raises(ServedNameError, match="'nobody has it': not served by"):
        tr.connect(BOTH, zoo.Encoder, "nobody has it")
    with pytest.raises(PlaceError, match="where=.*: not a string"):
        tr.connect({"owner"}, zoo.Encoder, "replica")


def test_one_that_does_not_fit_is_an_error(replicas):
    with pytest.raises(MismatchError):
        tr.connect(BOTH, zoo.Other, "replica")


def test_connecting_is_awaited(replicas):
    async def main():
        connected = await tr.connect_async(BOTH, zoo.Encoder, "replica")
        return await connected.forward_async(X)

    assert torch.equal(asyncio.run(main()), EXPECTED)
    pending = tr.connect_async(tuple(BOTH), zoo.Encoder, "replica")
    assert pending.wait() is pending.wait()
    assert pending.done()


def pending_replicas(monkeypatch):
    """Replicas of which no worker has answered, and the Future of the answer of one."""
    pending = tr.connect_async(BOTH, zoo.Encoder, "replica")
    pending.wait()
    answer = torch.futures.Future()
    one = types.SimpleNamespace(_answer=answer, done=answer.done)
    pending._made, pending._pending, pending._until = None, [one], math.inf
    monkeypatch.setattr("torchremote.caller.replicas.pending._is_found", lambda one: False)
    return pending, answer


def test_threads_that_wait_for_one_connection_all_end(replicas, monkeypatch):
    pending, answer = pending_replicas(monkeypatch)
    left, looked, go, waited = pending._left, threading.Semaphore(0), threading.Event(), []

    def look():
        seconds = left()
        looked.release()
        if seconds > 0 and threading.current_thread() is second:
            go.wait()
        return seconds

    pending._left = look
    first, second = (threading.Thread(target=lambda: waited.append(pending.wait()), daemon=True) for _ in range(2))
    for thread in (first, second):
        thread.start()
        looked.acquire()
    answer.set_result(None)
    first.join(20)
    go.set()  # it has looked before the answer, and waits after it
    second.join(20)
    assert len(waited) == 2
    assert waited[0] is waited[1]


def test_threads_that_wait_for_one_connection_get_one_object(replicas, monkeypatch):
    pending, answer = pending_replicas(monkeypatch)
    answer.set_result(None)
    makes, waits, makers = pending._make, threading.Event(), []

    def make():
        makers.append(threading.current_thread())
        if len(makers) == 1:
            waits.wait()
        return makes()

    pending._make = make
    waited = []
    thread = threading.Thread(target=lambda: waited.append(pending.wait()))
    thread.start()
    until(lambda: makers)
    other = threading.Thread(target=lambda: (waits.set(), waited.append(pending.wait())))
    other.start()
    for one in (thread, other):
        one.join()
    assert waited[0] is waited[1]
    assert len(makers) == 1


def test_the_mode_is_that_of_all(replicas):
    alone = [tr.connect(worker, zoo.Encoder, "replica") for worker in BOTH]
    model = torch.nn.ModuleDict({"encoder": replicas, "head": torch.nn.Linear(8, 2)})
    for mode in (False, True):
        assert model.train(mode) is model
        assert [stub.training for stub in alone] == [mode, mode]
        assert replicas.training is mode
    assert replicas.eval() is replicas
    assert not replicas.training
    replicas.train()
    with pytest.raises(ValueError, match="training mode is True or False"):
        replicas.train("yes")
    with pytest.raises(StubError, match=r"call its train\(False\)"):
        replicas.training = False


class Drop(torch.nn.Dropout):
    """Drops all, in training."""

    def __init__(self):
        super().__init__(1.0)


class Dropping:
    def forward(self, input: torch.Tensor) -> torch.Tensor: ...


def exported(training):
    return tr.exported(Drop().train(training), Dropping, {"forward": (X,)})


def serve(make, *args):
    with contextlib.suppress(ServedNameError):
        tr.withdraw("dropping")
    tr.serve(make(*args), Dropping, "dropping")


@pytest.fixture
def dropping(owner):
    """Replicas that drop all in training. They are in evaluation."""
    rpc.rpc_sync(owner, serve, (Drop,))
    serve(Drop)
    yield tr.connect(BOTH, Dropping, "dropping").eval()
    tr.withdraw("dropping", owner)
    tr.withdraw("dropping")


def modes():
    """The modes that the modules have at their owners."""
    return [bool((tr.connect(worker, Dropping, "dropping")(X) == 0).all()) for worker in BOTH]


def come_back(replicas):
    """Calls replicas of which some were served again, and waits until all take part."""
    for _ in range(2):
        with contextlib.suppress(NotInGroupError):
            replicas.forward_many([(X,)] * 4)
    until(lambda: repr(replicas).count("(0 in flight)") == 2)


def test_copies_share_one_mode(dropping, owner):
    copies = [dropping, tr.with_timeout(dropping, 5), copy.copy(dropping), copy.deepcopy(dropping)]
    for one, mode in ((dropping, True), (copies[1], False), (copies[3], True)):
        one.train(mode)
        assert [other.training for other in copies] == [mode] * 4
        rpc.rpc_sync(owner, serve, (Drop,))
        for other in copies:
            come_back(other)
            assert modes() == [mode, mode]
            assert [other.training for other in copies] == [mode] * 4


def mode_and_what_is_set(replicas):
    return replicas.training, team_of(replicas).shared.wanted


def test_those_that_were_sent_show_the_mode_and_set_none(dropping, owner):
    assert rpc.rpc_sync(owner, mode_and_what_is_set, (dropping,)) == (False, None)
    assert rpc.rpc_sync(owner, mode_and_what_is_set, (dropping.train(),)) == (True, None)


@pytest.mark.parametrize("refusing", BOTH)
def test_a_mode_that_one_refuses_is_that_of_none(dropping, owner, refusing):
    rpc.rpc_sync(refusing, serve, (exported, False))
    come_back(dropping)
    with pytest.raises(ArgumentError, match="exported in evaluation mode alone"):
        dropping.train()
    assert not dropping.training
    assert modes() == [False, False]
    rpc.rpc_sync(owner, serve, (Drop,))
    come_back(dropping)
    assert modes() == [False, False]


def test_one_that_refuses_the_mode_takes_part_all_the_same(dropping, owner, caplog):
    rpc.rpc_sync(owner, serve, (exported, True))
    come_back(dropping)
    assert modes() == [True, False]
    assert "the mode that was set here is refused: Dropping on owner: " in caplog.text


def test_what_torch_compile_and_data_parallel_make_of_them(dropping):
    compiled = torch.compile(dropping, backend="eager")
    assert compiled.train() is compiled
    assert dropping.training
    assert modes() == [True, True]
    for copied in replicate(torch.nn.Sequential(dropping), [0, 1]):
        assert copied[0].eval() is copied[0]
        assert not dropping.training
        assert torch.equal(copied(X), X)
        dropping.train()


def test_they_have_no_parts_and_no_mode_that_is_deleted(replicas):
    with pytest.raises(StubError, match=r"replica' on owner, caller: head = Linear.*module of your own"):
        replicas.head = torch.nn.Linear(2, 2)
    with pytest.raises(StubError, match=r"call its train\(\) or eval\(\)"):
        del replicas.training
    assert not list(replicas.children())


def test_the_native_part_has_no_call_of_theirs_follow(replicas):
    for one in (replicas, tr.with_timeout(replicas, 5), copy.copy(replicas)):
        stubs = team_of(one).stubs().values()
        assert [route_and_interface(stub, "test")[0].followed for stub in stubs] == [False, False]


def test_a_model_goes_on_without_them(replicas):
    model = torch.nn.ModuleDict({"encoder": replicas, "head": torch.nn.Linear(8, 2)})
    assert sorted(model.state_dict()) == ["head.bias", "head.weight"]
    assert len(list(model.parameters())) == 2
    assert not list(model.buffers())
    model.to("cpu").zero_grad()
    model.load_state_dict(model.state_dict())
    assert model.apply(lambda part: None) is model
    assert [name for name, _ in model.named_modules()] == ["", "encoder", "head"]


@pytest.mark.parametrize(
    "asked",
    [
        lambda it: it.parameters(),
        lambda it: it.buffers(),
        lambda it: it.state_dict(),
        lambda it: it.state_dict(prefix="a."),
        lambda it: it.state_dict(keep_vars=True),
        lambda it: it.load_state_dict({}),
        lambda it: it.requires_grad_(),
        lambda it: it.zero_grad(),
        lambda it: it.to("cpu"),
        lambda it: torch.jit.script(it),
        lambda it: torch.jit.script(torch.nn.Sequential(it)),
    ],
)
def test_what_is_of_one_module_is_refused_with_what_to_write(replicas, asked):
    with pytest.raises(StubError, match=r"torchremote.connect\('owner', Encoder, 'replica'\)"):
        asked(replicas)


def test_a_trace_of_a_model_with_them_says_what_to_do(replicas):
    with pytest.raises(StubError, match="torch.jit.trace records no call of .* and none of replicas; script the model"):
        torch.jit.trace(torch.nn.Sequential(replicas), (X,))
    until(lambda: repr(replicas).count("(0 in flight)") == 2)


def test_one_that_cannot_be_found_at_first_is_logged_with_its_reason(replicas, owner, caplog):
    tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name="half")
    tr.connect(BOTH, zoo.Encoder, "half")
    (said,) = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    begin = "torchremote: Encoder 'half' on owner, caller: caller is left out for now: Encoder on caller: 'half': not "
    assert said.startswith(begin)
    tr.withdraw("half", owner)


def test_other_refusals(replicas):
    with pytest.raises(StubError, match="on the owner, where the module is made"):
        replicas.half()
    with pytest.raises(StubError, match="put the stub into a module of your own"):
        replicas.register_forward_hook(print)
    for save in (lambda: torch.jit.save(replicas, io.BytesIO()), lambda: replicas.save("file")):
        with pytest.raises(NotSavableError, match="connect to one of them alone"):
            save()
    for pickled in (lambda: torch.save(replicas, io.BytesIO()), lambda: pickle.dumps(replicas)):
        with pytest.raises(NotSavableError, match=r"pickle the arguments of connect\(\)"):
            pickled()
    with pytest.raises(InterfaceError, match="at_owner: EncoderReplicas stands for modules on several workers"):
        tr.at_owner(replicas)
    with pytest.raises(AttributeError, match="Encoder.forwad: .* did you mean forward"):
        replicas.forwad  # noqa: B018


def test_copies_and_timeouts_share_the_modules(replicas):
    replicas.label = ["mine"]
    for other in (copy.copy(replicas), copy.deepcopy(replicas), tr.with_timeout(replicas, 5)):
        assert torch.equal(other(X), EXPECTED)
        assert other.label == ["mine"]
    assert copy.deepcopy(replicas).label is not replicas.label
    slow = tr.with_timeout(replicas, 0.001)
    assert replicas.forward.__doc__ == slow.forward.__doc__
    del replicas.label


def call_them(replicas, x):
    return replicas(x), repr(replicas), replicas.label


def make_them():
    return tr.connect(BOTH, zoo.Encoder, "replica")


def test_they_are_sent(replicas, owner):
    replicas.label = "sent"
    y, shown, label = rpc.rpc_sync(owner, call_them, (replicas, X))
    assert torch.equal(y, EXPECTED)
    assert shown.startswith("EncoderReplicas(Encoder 'replica' on owner (0 in flight), caller (")
    assert label == "sent"
    del replicas.label
    assert torch.equal(rpc.rpc_sync(owner, make_them)(X), EXPECTED)
    assert torch.equal(rpc.remote(owner, make_them).rpc_sync().forward(X), EXPECTED)


def test_what_is_shown(replicas):
    assert repr(replicas) == "EncoderReplicas(Encoder 'replica' on owner (0 in flight), caller (0 in flight))"
    names = dir(replicas)
    assert sorted(names)[: len(names)][0] == names[0] == "fail"
    assert "x: torch.Tensor" in str(__import__("inspect").signature(replicas.forward))


def test_the_stubs_of_replicas_that_were_sent_do_not_follow(replicas, owner):
    copied = rpc.rpc_sync(owner, copy.copy, (replicas,))
    stubs = team_of(copied).stubs()
    assert list(stubs) == BOTH
    assert not any(stub.__dict__[METHODS].followed for stub in stubs.values())
    alone = tr.connect(owner, zoo.Encoder, "replica")
    assert rpc.rpc_sync(owner, copy.copy, (alone,)).__dict__[METHODS].followed


@pytest.mark.parametrize("is_noticed_by_a_call", [True, False])
def test_one_that_is_lost_again_while_it_comes_back_is_looked_for(replicas, monkeypatch, is_noticed_by_a_call):
    team = team_of(tr.with_timeout(replicas, 20))
    lost, put = threading.Event(), team.put

    def leave_out(stub):
        (replica,) = (one for one in team._replicas if one.where == "owner")
        if is_noticed_by_a_call:
            team.leave_out(replica, stub, NotInGroupError("lost"))
        else:
            stub.__dict__[METHODS].lose()

    def put_and_lose(where, stub):
        put(where, stub)
        if not lost.is_set():
            leave_out(stub)
            lost.set()

    monkeypatch.setattr(team, "put", put_and_lose)
    leave_out(team.stubs()["owner"])
    assert lost.wait(20)
    until(lambda: list(team.stubs()) == BOTH)
    until(lambda: not any(replica.sought for replica in team._replicas))


def test_it_is_said_how_long_a_worker_had_to_answer(replicas, owner, monkeypatch):
    monkeypatch.setattr(teams, "ASKING", 0.1)
    team = team_of(tr.with_timeout(replicas, 20))
    (replica,) = (one for one in team._replicas if one.where == "owner")
    held = holding_the_gil(owner, 3)
    team.leave_out(replica, replica.stub, NotInGroupError("lost"))
    until(lambda: "owner (left out: its worker did not answer within 0.1 s)" in team.shown)
    held.wait()
    until(lambda: list(team.stubs()) == BOTH)
