"""Creating, serving, connecting, letting go; and what is refused."""

import gc
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.distributed.rpc as rpc
from torch import Tensor, nn

import torchremote as tr
from torchremote import chores
from torchremote.caller.stubs.stub import make_stub
from torchremote.errors import CapacityError, MismatchError, NotInitializedError, ServedNameError, StaleStubError
from torchremote.jit import compile_interface
from torchremote.jit.runtime import table
from torchremote.link import grace
from torchremote.link.route import route_of
from torchremote.owner import served
from torchremote.owner.lives import holders, leases
from torchremote.owner.running import tables
from torchremote.owner.running.hosting import AT_ONCE, hosting_of, put_of

from .. import owner_process as remote
from .. import zoo
from ..caller.test_calls import Ranker
from ..waiting import hosted, until

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
X = torch.ones(2, 8)


def test_without_rpc_there_is_an_error_of_its_own(monkeypatch):
    monkeypatch.setattr("torchremote.jit._torch.rpc_running", lambda: False)
    with pytest.raises(NotInitializedError, match="init_rpc"):
        tr.create("owner", zoo.Encoder, zoo.LinearEncoder)


# -- lives


def test_an_unnamed_module_goes_with_its_last_stub(owner):
    before = hosted(owner)
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    twin = tr.with_timeout(stub, 5)
    assert len(hosted(owner) - before) == 1
    del stub
    assert twin(X).shape == (2, 8)
    assert len(hosted(owner) - before) == 1
    del twin
    until(lambda: hosted(owner) <= before)


def test_a_stub_may_live_inside_a_scripted_model_alone(owner):
    before = hosted(owner)
    model = torch.jit.script(Ranker(tr.create(owner, zoo.Encoder, zoo.LinearEncoder)))
    gc.collect()
    assert len(hosted(owner) - before) == 1
    assert model(X).shape == (2, 8)
    del model
    until(lambda: hosted(owner) <= before)


def test_a_future_outlives_its_stub(owner):
    future = tr.create(owner, zoo.Encoder, zoo.LinearEncoder).forward_async(X)
    gc.collect()
    assert future.wait().shape == (2, 8)


def test_a_served_module_stays_until_it_is_withdrawn(owner):
    before = hosted(owner)
    stub = tr.create("rank:1/cpu", zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": 9}, name="stays")
    del stub
    gc.collect()
    assert len(hosted(owner) - before) == 1
    again = tr.connect("rank:1", zoo.Encoder, "stays", timeout=5)
    assert torch.equal(again(X), zoo.LinearEncoder(seed=9)(X, 1.0))
    rpc.rpc_sync(owner, tr.withdraw, ("stays",))
    assert hosted(owner) <= before


def test_serve_offers_a_module_of_this_process_to_itself_too(owner):
    module = zoo.LinearEncoder()
    tr.serve(module, zoo.Encoder, "mine")
    stub = tr.connect("caller", zoo.Encoder, "mine")
    with torch.no_grad():
        module.linear.weight.zero_()
        module.linear.bias.fill_(2.0)
    assert torch.equal(stub(X), torch.full((2, 8), 2.0))  # the parameters are shared
    with pytest.raises(ServedNameError, match="'mine': this process serves Encoder under that name"):
        tr.serve(module, zoo.Encoder, "mine")
    tr.withdraw("mine")
    with pytest.raises(ServedNameError, match=r"'mine': not served by the worker '\w+'"):
        tr.withdraw("mine")


def test_a_served_module_is_replaced_whole_while_calls_are_in_flight(owner):
    class Fewer:
        def forward(self, x: Tensor, scale: float) -> Tensor: ...

    rpc.rpc_sync(owner, remote.serve_encoder, ("replaced", 1))
    stub, fewer = tr.connect(owner, zoo.Encoder, "replaced"), tr.connect(owner, Fewer, "replaced")
    before = hosted(owner)
    both = [zoo.LinearEncoder.output(seed, X) for seed in (1, 2)]
    replacing = rpc.rpc_async(owner, remote.replace_encoder, ("replaced", (1, 2), 300))
    seen = [0, 0]
    while not replacing.done() or not all(seen):
        calls = [stub.forward_async(X) for _ in range(50)] + [fewer.forward_async(X, 1.0) for _ in range(50)]
        for result in torch.futures.wait_all(calls):
            (which,) = [n for n, expected in enumerate(both) if torch.equal(result, expected)]
            seen[which] += 1
    replacing.wait()
    assert torch.equal(stub(X), both[1])
    assert torch.equal(fewer(X, 1.0), both[1])
    assert hosted(owner) <= before
    rpc.rpc_sync(owner, tr.withdraw, ("replaced",))
    with pytest.raises(StaleStubError):
        fewer(X, 1.0)


def test_what_replaces_a_module_must_do_all_that_is_called():
    class Fewer:
        def forward(self, x: Tensor, scale: float) -> Tensor: ...

    module = zoo.LinearEncoder(seed=1)
    tr.serve(module, zoo.Encoder, "kept", replace=True)  # nothing is there yet
    with pytest.raises(MismatchError, match=r"Encoder\.fail: the module has no such scripted method"):
        tr.serve(ForwardOnly(), Fewer, "kept", replace=True)
    assert torch.equal(served.served_module("kept")(X, 1.0), module(X, 1.0))
    tr.withdraw("kept")


class ForwardOnly(nn.Module):
    def forward(self, x: Tensor, scale: float) -> Tensor:
        return x


def test_memory_stays_flat_while_modules_come_and_go(owner):
    def rounds(count):
        for _ in range(count):
            tr.create(owner, zoo.Encoder, zoo.LinearEncoder)(X)
        until(lambda: hosted(owner) <= before)
        return remote.resident(), rpc.rpc_sync(owner, remote.resident)

    before = hosted(owner)
    rounds(50)  # what is compiled once
    caller, owners = rounds(50)
    for _ in range(4):
        now = rounds(100)
    # What a withdrawn module leaves for the grace period is about 10 KiB; that, and nothing that adds up.
    assert now[0] - caller < 4 << 20
    assert now[1] - owners < 12 << 20


def test_connect_takes_any_interface_that_the_module_implements(owner):
    class Fewer:
        def forward(self, x: Tensor, scale: float = 7.0) -> Tensor: ...

    class Other:
        def forward(self, x: Tensor, scale: int) -> Tensor: ...

    before = hosted(owner)
    tr.create(owner, zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": 1}, name="rich")
    assert torch.equal(tr.connect(owner, Fewer, "rich")(X), zoo.LinearEncoder(seed=1)(X, 7.0))
    with pytest.raises(MismatchError, match=r"Other\.forward\.scale: the interface passes int, the module takes float"):
        tr.connect(owner, Other, "rich")
    rpc.rpc_sync(owner, tr.withdraw, ("rich",))
    assert hosted(owner) <= before


def test_interfaces_of_one_text_and_two_names(owner):
    def interface():
        class Named:
            def forward(self, x: Tensor, scale: float) -> Tensor: ...

        return Named

    one, other = interface(), interface()
    other.__name__ = other.__qualname__ = "Otherwise"
    assert compile_interface(one).digest == compile_interface(other).digest
    tr.serve(zoo.LinearEncoder(seed=1), one, "both")
    for named in (one, other):
        assert torch.equal(tr.connect("caller", named, "both")(X, 1.0), zoo.LinearEncoder.output(1, X))
    tr.withdraw("both")


def test_a_lease_of_the_next_group_is_not_ended_by_what_was_asked_in_the_last(monkeypatch):
    ended = []
    monkeypatch.setattr(leases, "_leased", {})
    monkeypatch.setattr(holders._torch, "own_id", lambda: 0)
    monkeypatch.setattr(holders._torch, "rpc_running", lambda: True)
    asked = torch.futures.Future()
    monkeypatch.setattr(holders, "_ask", lambda holder: asked)
    monkeypatch.setattr(holders, "_holders", {})
    monkeypatch.setattr(holders, "meet", lambda holder: None)  # it would ask in another thread
    leases.start(1, ended.append, holder=7, ticket="first")
    first = leases.Lease(1, holder=7, ticket="first")
    leases.watch()
    asked.set_exception(RuntimeError("eof"))
    leases.start(2, ended.append, holder=7, ticket="second")  # of another worker, which has the number by now
    second = leases.Lease(2, holder=7, ticket="second")
    leases.watch()
    assert ended == [1]
    assert [handle for handle, _ in leases._leases()[7]] == [2]
    del first, second


def test_a_holder_that_refused_before_its_group_took_it_off_holds_nothing(monkeypatch):
    ended, group = [], [SimpleNamespace(id=0), SimpleNamespace(id=7)]
    monkeypatch.setattr(leases, "_leased", {})
    monkeypatch.setattr(holders._torch, "own_id", lambda: 0)
    monkeypatch.setattr(holders._torch, "rpc_running", lambda: True)
    monkeypatch.setattr(holders._torch, "worker_infos", lambda: group)
    asked = torch.futures.Future()
    asked.set_exception(RuntimeError("ECONNREFUSED: connection refused (tensorpipe/transport)"))
    monkeypatch.setattr(holders, "_ask", lambda holder: asked)
    monkeypatch.setattr(holders, "_holders", {})
    monkeypatch.setattr(holders, "meet", lambda holder: None)  # it would ask in another thread
    leases.start(1, ended.append, holder=7, ticket="ticket")
    for _ in range(3):
        leases.watch()
    assert ended == []
    del group[1]
    leases.watch()
    assert ended == [1]


def signs(monkeypatch):
    """Returns what gives signs once: for how each owner takes its sign, it returns those that got one."""
    monkeypatch.setattr(holders._torch, "own_id", lambda: 0)
    monkeypatch.setattr(holders, "_owners", {})
    monkeypatch.setattr(holders, "ROUNDS_BETWEEN_SIGNS", 1)
    monkeypatch.setattr(chores, "_regularly", [])  # this thread does it
    monkeypatch.setattr(chores, "regularly", lambda chore: None)

    def give(**answers):
        asked = []

        def ask(owner, function, args):
            asked.append(owner)
            answer = torch.futures.Future()
            if isinstance(answers[owner], Exception):
                answer.set_exception(answers[owner])
            else:
                answer.set_result(answers[owner])
            return answer

        monkeypatch.setattr(holders, "rpc", SimpleNamespace(rpc_async=ask))
        holders._give_signs()
        return asked

    return give


def test_signs_end_when_an_owner_has_said_twice_that_it_knows_of_no_lease(monkeypatch):
    give = signs(monkeypatch)
    for owner in ("knows", "earlier", "none", "fails"):
        holders.give_signs(owner)
    answers = {"knows": True, "earlier": None, "none": False, "fails": RuntimeError("busy")}
    assert [give(**answers) for _ in range(3)] == [[*answers], [*answers], ["knows", "earlier", "fails"]]
    holders.give_signs("none")  # for another lease
    assert give(**answers) == ["knows", "earlier", "fails", "none"]


def test_signs_go_on_when_a_lease_comes_just_after_the_second_answer(monkeypatch):
    give, is_owner = signs(monkeypatch), holders._is_owner
    holders.give_signs("owner")
    assert give(owner=False) == give(owner=False) == ["owner"]

    def is_one(owner):
        found = is_owner(owner)
        holders.give_signs("owner")
        return found

    monkeypatch.setattr(holders, "_is_owner", is_one)
    assert give(owner=False) == []
    monkeypatch.setattr(holders, "_is_owner", is_owner)
    assert give(owner=True) == ["owner"]


def test_signs_go_on_while_a_module_is_created(monkeypatch):
    give, answer = signs(monkeypatch), torch.futures.Future()
    holders.give_signs("owner", answer)
    holders.give_signs("owner")
    assert all(give(owner=False) == ["owner"] for _ in range(5))
    answer.set_result([])
    assert [give(owner=False) for _ in range(2)] == [["owner"], []]


def test_hosting_on_oneself(owner):
    before = tr.stats().modules
    stub = tr.create("caller", zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": 2})
    assert torch.equal(stub(X), zoo.LinearEncoder(seed=2)(X, 1.0))
    del stub
    until(lambda: gc.collect() >= 0 and tr.stats().modules == before)


def test_many_modules_behind_one_endpoint(owner):
    before = hosted(owner)
    pending = [tr.create_async(owner, zoo.Sleeper, zoo.SlowLoop) for _ in range(600)]  # more than a page
    stubs = [one.wait() for one in pending]
    assert len(hosted(owner) - before) == 600
    assert [int(stub(torch.zeros(1), n)) for n, stub in enumerate(stubs)] == list(range(600))
    del stubs, pending
    until(lambda: hosted(owner) <= before)


def test_modules_come_and_go_under_load(owner):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": 6})
    expected = zoo.LinearEncoder(seed=6)(X, 1.0)
    churning = rpc.rpc_async(owner, remote.churn, (20_000,))
    calls = 0
    while not churning.done():
        for result in torch.futures.wait_all([stub.forward_async(X) for _ in range(100)]):
            assert torch.equal(result, expected)
        calls += 100
    churning.wait()
    assert calls >= 100


def test_a_worker_that_hosts_thousands_more_is_called_meanwhile(owner):
    stub = tr.create(owner, zoo.Sleeper, zoo.SlowLoop)
    hosting = rpc.rpc_async(owner, remote.host_many, (2000,))
    while not hosting.done():
        assert stub(torch.zeros(1), 2) == 2
    handles = hosting.wait()
    assert len(set(handles)) == 2000
    contract, route = compile_interface(zoo.Sleeper), route_of(stub)
    for handle in (handles[0], handles[-1]):
        far = make_stub(contract, replace(route, handle=handle, lease=None))
        assert far(torch.zeros(1), 5) == 5
    rpc.rpc_sync(owner, remote.release_all, (handles,))


def test_a_slot_outlives_its_module_by_the_grace_period():
    compiled = compile_interface(zoo.interface_of("forward(x: Tensor) -> Tensor", "Buried"))
    contract = compiled.contract
    books = tables.OwnerTable(contract)
    hosting = hosting_of(torch.jit.script(ExportedEncoder(1.0)), torch.device("cpu"), AT_ONCE)
    put = put_of(contract, hosting, None)
    with tables.LOCK:
        handle = books.insert(put)
        books.remove(handle)
        last = books.retired[-1]
        books.drop_retired(last + grace.GRACE / 2)
        assert contract.table.drop_retired(0) == len(books.retired) == 2
        books.drop_retired(last + grace.GRACE)
        assert contract.table.drop_retired(0) == len(books.retired) == 0


def test_a_full_table_says_so():
    contract = compile_interface(zoo.interface_of("forward(x: Tensor) -> Tensor", "Full")).contract
    books = tables.OwnerTable(contract, unused=table.CAPACITY, pages=table.CAPACITY >> table.SLOT_BITS)
    with pytest.raises(CapacityError, match="hosts 131072 modules of it already"):
        books.insert(lambda handle: None)


def test_what_nobody_waited_for_goes_too(owner):
    before = hosted(owner)
    for _ in range(5):
        tr.create_async(owner, zoo.Encoder, zoo.LinearEncoder)
    until(lambda: hosted(owner) <= before)


def test_creating_without_waiting(owner):
    rpc.rpc_sync(owner, remote.close_gate)
    pending = tr.create_async(owner, zoo.Encoder, remote.linear_behind_a_gate, (30,))
    assert not pending.done()
    rpc.rpc_sync(owner, remote.open_gate)
    assert pending.wait() is pending.wait()
    assert pending.done()
    assert pending.wait()(X).shape == (2, 8)


def test_a_scripted_module_is_sent_whole(owner):
    scripted = torch.jit.script(ExportedEncoder(5.0))
    stub = tr.create(owner, Doubling, scripted)
    assert torch.equal(stub(X), X * 5)


class Doubling:
    def forward(self, x: Tensor) -> Tensor: ...


class ExportedEncoder(nn.Module):
    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor
