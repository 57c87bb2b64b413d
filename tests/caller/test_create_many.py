"""Many modules at once."""

import contextlib
import sys
import threading
import types

import pytest
import torch
import torch.distributed.rpc as rpc

import torchremote as tr
from torchremote.caller.creating.pending_stub import PendingStub
from torchremote.errors import ArgumentError, CreationError, MismatchError, PlaceError, ServedNameError, WireError

from .. import zoo
from ..waiting import until


def served(name):
    return name in {module.name for module in tr.stats().modules}


def hosted():
    """Returns how many modules the owner hosts."""
    return len(tr.stats().modules)


def test_modules_are_made_in_order_each_with_arguments_of_its_own(owner):
    x = torch.ones(1, 8)
    stubs = tr.create_many(
        [owner, "caller", f"{owner}/cpu", "rank:1"],
        zoo.Encoder,
        zoo.LinearEncoder,
        args=[(8,)] * 4,
        kwargs=[{"seed": seed} for seed in range(4)],
        timeout=20,
    )
    for seed, stub in enumerate(stubs):
        assert torch.equal(stub(x), zoo.LinearEncoder.output(seed, x))
    assert ["owner" in repr(stub) for stub in stubs] == [True, False, True, True]


def test_one_message_a_worker(owner, monkeypatch):
    sent = []
    send = rpc.rpc_async
    monkeypatch.setattr(rpc, "rpc_async", lambda to, *args: sent.append(to.name) or send(to, *args))
    tr.create_many([owner, "caller"] * 10, zoo.Encoder, zoo.LinearEncoder)
    assert sorted(sent) == ["caller", "owner"]


def test_none(owner):
    assert tr.create_many([], zoo.Encoder, zoo.LinearEncoder) == []


def test_names(owner):
    tr.create_many([owner] * 2, zoo.Encoder, zoo.LinearEncoder, names=["first", "second"])
    for name in ("first", "second"):
        tr.connect(owner, zoo.Encoder, name)
        rpc.rpc_sync(owner, tr.withdraw, (name,))


def sized(size):
    if size < 0:
        raise ValueError(f"no size: {size}")
    return zoo.LinearEncoder(size)


def test_one_failure_leaves_nothing(owner):
    before = rpc.rpc_sync(owner, hosted)
    with pytest.raises(CreationError, match=r"^module 1: Encoder on owner: .*no size: -1"):
        tr.create_many([owner] * 3, zoo.Encoder, sized, args=[(8,), (-1,), (8,)], names=["a", "b", "c"])
    until(lambda: rpc.rpc_sync(owner, hosted) <= before)
    tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name="a")  # is free
    rpc.rpc_sync(owner, tr.withdraw, ("a",))


def ending(error):
    if error is not None:
        raise error("as asked")
    return zoo.LinearEncoder()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_what_is_no_exception_leaves_nothing(owner, error, position):
    before = rpc.rpc_sync(owner, hosted)
    args = [(error if number == position else None,) for number in range(3)]
    with pytest.raises(
        CreationError, match=f"^module {position}: Encoder on owner: ending raised {error.__name__}: as"
    ):
        tr.create_many([owner] * 3, zoo.Encoder, ending, args=args, names=["a", "b", "c"])
    until(lambda: rpc.rpc_sync(owner, hosted) <= before)
    for name in "abc":  # is free
        tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name=name)
        rpc.rpc_sync(owner, tr.withdraw, (name,))


def test_ctrl_c_leaves_nothing(owner, monkeypatch):
    wait = PendingStub.wait

    def interrupted(pending):
        if pending._name == "c":
            raise KeyboardInterrupt
        return wait(pending)

    monkeypatch.setattr(PendingStub, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tr.create_many([owner, "caller", owner], zoo.Encoder, zoo.LinearEncoder, names=["a", "b", "c"])
    until(lambda: not any(rpc.rpc_sync(owner, served, (name,)) for name in "ac"))
    until(lambda: not served("b"))


@pytest.mark.parametrize("importable", [False, True], ids=["local", "only here"])
def test_ctrl_c_leaves_nothing_that_was_built_here(owner, monkeypatch, importable):
    """A class that the owner cannot import: then each module has a message of its own."""

    class Local(zoo.LinearEncoder):
        pass

    if importable:  # so that only the owner finds out
        Local.__module__, Local.__qualname__ = "only_here", "Local"
        monkeypatch.setitem(sys.modules, "only_here", types.ModuleType("only_here"))
        sys.modules["only_here"].Local = Local
    wait = PendingStub.wait

    def interrupted(pending):
        if pending._name == "c":
            if importable:
                pending._send_built(None)
            raise KeyboardInterrupt
        stub = wait(pending)
        assert rpc.rpc_sync(owner, served, (pending._name,))
        return stub

    monkeypatch.setattr(PendingStub, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tr.create_many([owner] * 3, zoo.Encoder, Local, names=["a", "b", "c"])
    until(lambda: not any(rpc.rpc_sync(owner, served, (name,)) for name in "abc"))


def test_a_taken_name_says_whose(owner):
    for where, whose in ((owner, "owner"), ("caller", "caller")):
        serves = f"'twice': the worker '{whose}' serves Encoder .*withdraw\\('twice', '{whose}'"
        says = f"^module 1: Encoder on {whose}: {serves}"
        with pytest.raises(ServedNameError, match=says) as found:
            tr.create_many([where] * 2, zoo.Encoder, zoo.LinearEncoder, names=["twice"] * 2)
        assert "this process" not in str(found.value)
        tr.create(where, zoo.Encoder, zoo.LinearEncoder, name="twice")
        with pytest.raises(ServedNameError, match=f"^Encoder on {whose}: 'twice': the worker '{whose}' serves"):
            tr.create(where, zoo.Encoder, zoo.LinearEncoder, name="twice")
        rpc.rpc_sync(where, tr.withdraw, ("twice",))


def test_failures_in_place_of_stubs(owner):
    first, second, third = tr.create_many(
        [owner] * 3, zoo.Encoder, sized, args=[(8,), (-1,), (8,)], names=["a", "b", "a"], return_exceptions=True
    )
    assert torch.equal(first(torch.zeros(0, 8)), torch.zeros(0, 8))
    assert isinstance(second, CreationError)
    assert isinstance(third, ServedNameError)
    rpc.rpc_sync(owner, tr.withdraw, ("a",))


def test_a_worker_that_does_not_say_what_it_has_is_an_error_in_its_place(owner, monkeypatch):
    def is_only_here(place, request):
        raise WireError("Encoder on owner: no answer")

    monkeypatch.setattr(sys.modules["torchremote.caller.creating.create_many"], "is_only_here", is_only_here)
    failures = tr.create_many([owner] * 2, zoo.Encoder, zoo.LinearEncoder, return_exceptions=True)
    assert list(map(str, failures)) == [f"module {position}: Encoder on owner: no answer" for position in (0, 1)]
    with pytest.raises(WireError, match="module 0: Encoder on owner: no answer"):
        tr.create_many([owner] * 2, zoo.Encoder, zoo.LinearEncoder)


@pytest.mark.parametrize(
    ("error", "match", "where", "more"),
    [
        (ArgumentError, "args: 1 of them for 2 modules", ["owner", "owner"], {"args": [()]}),
        (ArgumentError, "names: 3 of them for 2", ["owner", "owner"], {"names": ["a", "b", "c"]}),
        (ArgumentError, r"module 0: args=5: .*one tuple for each module: args=\[\(5,\)\]", ["owner"], {"args": (5,)}),
        (ArgumentError, r"module 1: args='a': .*args=\[\('a',\), ...\]", ["owner"] * 2, {"args": [(), "a"]}),
        (PlaceError, "module 1: .*nowhere", ["owner", "nowhere"], {}),
        (ArgumentError, "where: str is no list", "owner", {}),
        (ArgumentError, "kwargs: dict is no list", ["owner"], {"kwargs": {"seed": 1}}),
        (ArgumentError, "names: str is no list", ["owner"], {"names": "a"}),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_sent(owner, error, match, where, more):
    with pytest.raises(error, match=match):
        tr.create_many(where, zoo.Encoder, zoo.LinearEncoder, **more)
    with pytest.raises(MismatchError, match="cannot be called"):
        tr.create_many(where, zoo.Encoder, 5)


def unpicklable():
    return threading.Lock()


def test_one_message_that_cannot_be_sent_leaves_nothing_of_the_others(owner):
    before = rpc.rpc_sync(owner, hosted)
    made = {"args": [(8,), (unpicklable(),)], "names": ["sent", "not sent"]}
    with pytest.raises(CreationError, match="^module 1: Encoder on caller: cannot be sent"):
        tr.create_many([owner, "caller"], zoo.Encoder, sized, **made)
    until(lambda: rpc.rpc_sync(owner, hosted) <= before)  # what other tests let go of may go meanwhile


def test_every_kind_of_error_has_its_place(owner):
    first, *errors = tr.create_many(
        [owner, "nowhere", "caller", f"{owner}/nothing:0"],
        zoo.Encoder,
        sized,
        args=[(8,), (8,), (unpicklable(),), (8,)],
        return_exceptions=True,
    )
    assert first(torch.zeros(0, 8)).shape == (0, 8)
    assert [type(error) for error in errors] == [PlaceError, CreationError, PlaceError]
    assert [str(error).partition(":")[0] for error in errors] == ["module 1", "module 2", "module 3"]


def test_a_scripted_module_takes_no_arguments(owner):
    with pytest.raises(ArgumentError, match="takes no args or kwargs"):
        tr.create(owner, zoo.Encoder, torch.jit.script(zoo.RicherModule()), args=(8,))


def created(owner, if_exists, **more):
    kwargs = [{"seed": 2}, {"seed": 3}]
    names = ["taken", "free"]
    return tr.create_many(
        [owner] * 2, zoo.Encoder, zoo.LinearEncoder, kwargs=kwargs, names=names, if_exists=if_exists, **more
    )


@pytest.fixture
def taken(owner):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder, kwargs={"seed": 1}, name="taken")
    yield stub
    with contextlib.suppress(ServedNameError):
        tr.withdraw("free", owner)
    tr.withdraw("taken", owner)


def outputs(*stubs):
    x = torch.randn(2, 8)
    return [
        next(seed for seed in range(4) if torch.equal(stub(x), zoo.LinearEncoder.output(seed, x))) for stub in stubs
    ]


@pytest.mark.parametrize(("if_exists", "seeds"), [("connect", [1, 3, 1]), ("replace", [2, 3, 2])])
def test_names_that_are_taken_are_connected_or_replaced(owner, taken, if_exists, seeds):
    assert outputs(*created(owner, if_exists), taken) == seeds


def test_a_name_that_is_taken_says_what_to_write(owner, taken):
    with pytest.raises(ServedNameError, match="module 0: .*; if_exists='connect' takes .* if_exists='replace' puts"):
        created(owner, "raise")


@pytest.mark.parametrize(("if_exists", "seed"), [("connect", 1), ("replace", 2)])
def test_modules_that_were_there_stay_when_another_cannot_be_made(owner, taken, if_exists, seed):
    with pytest.raises(CreationError, match="module 2"):
        tr.create_many(
            [owner] * 3,
            zoo.Encoder,
            zoo.LinearEncoder,
            kwargs=[{"seed": 2}, {"seed": 3}, {"no": 1}],
            names=["taken", "free", "none"],
            if_exists=if_exists,
        )
    assert outputs(taken) == [seed]
    with pytest.raises(ServedNameError, match="free"):
        tr.withdraw("free", owner)


def test_an_if_exists_needs_names(owner):
    with pytest.raises(ArgumentError, match="module 0: if_exists='connect': .*names="):
        tr.create_many([owner], zoo.Encoder, zoo.LinearEncoder, if_exists="connect")
    with pytest.raises(ArgumentError, match="module 0: if_exists='never': one of 'raise', "):
        tr.create_many([owner], zoo.Encoder, zoo.LinearEncoder, names=["a"], if_exists="never")
