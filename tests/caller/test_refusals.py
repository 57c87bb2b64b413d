"""What creating, serving and connecting refuse, with nothing left on the owner."""

import functools
import os

import pytest
import torch
import torch.distributed.rpc as rpc
from torch import Tensor

import torchremote as tr
from torchremote.errors import (
    ArgumentError,
    CreationError,
    InterfaceError,
    MismatchError,
    NotInGroupError,
    PlaceError,
    ServedNameError,
    StaleStubError,
)

from .. import owner_process as remote
from .. import zoo
from ..group import play
from ..waiting import hosted, until
from .test_calls import Ranker

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
X = torch.ones(2, 8)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (zoo.Raising, CreationError, r"Encoder on owner: Raising raised KeyError: 'no such weights'"),
        (zoo.NotScriptable, CreationError, r"NotScriptable cannot be scripted"),
        (zoo.Missing, MismatchError, r"Encoder\.(fail|reset|topk): Missing has no such method; expected\n"),
        (
            zoo.WrongArgument,
            MismatchError,
            r"Encoder\.forward\.scale: the interface passes float, the module takes int\n"
            r"    expected: forward\(x: Tensor, scale: float\) -> Tensor\n"
            r"    the module has: forward\(x: Tensor, scale: int\) -> Tensor",
        ),
        (zoo.WrongName, MismatchError, r"Encoder\.forward\.x: the module calls this argument 'input'"),
        (zoo.WrongResult, MismatchError, r"Encoder\.topk\.return: the interface promises Tuple\[Tensor, Tensor\]"),
        (zoo.TooMany, MismatchError, r"Encoder\.forward\.more: the module takes this argument, too"),
        (dict, MismatchError, r"is not a torch\.nn\.Module"),
    ],
)
def test_what_does_not_fit(owner, make, error, message):
    before = hosted(owner)
    with pytest.raises(error, match=message):
        tr.create(owner, zoo.Encoder, make)
    with pytest.raises(error, match=message):
        tr.create(owner, zoo.Encoder, make, name="never")
    with pytest.raises(ServedNameError, match=r"'never': not served by the worker '\w+'"):
        tr.connect(owner, zoo.Encoder, "never")
    assert hosted(owner) <= before


def test_a_name_that_is_taken_leaves_the_first_one_alone(owner):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name="taken")
    before = hosted(owner)
    with pytest.raises(ServedNameError, match="'taken'"):
        tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name="taken")
    assert hosted(owner) <= before
    assert stub(X).shape == (2, 8)
    rpc.rpc_sync(owner, tr.withdraw, ("taken",))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            "nobody",
            r"there is no worker 'nobody'; the group has caller \(rank:0\), owner \(rank:1\), and nobody else",
        ),
        ("rank:7", "there is no worker 'rank:7'"),
        ("rank:x", "there is no worker 'rank:x'"),
        ("", "cannot be read"),
        ("owner/", "cannot be read"),
        ("owner/warp:1", "'warp:1' is no device"),
        ("owner/cuda:99", "device 'cuda:99': not on this worker, which has cpu(, [a-z]+:[0-9]+)*; name one of these "),
        ("owner/hpu", "not on this worker"),
        ("owner/meta", "no data to compute with"),
        (3, "^where=3: not a string"),
    ],
)
def test_places_that_are_none(owner, where, message):
    with pytest.raises(PlaceError, match=message):
        tr.create(where, zoo.Encoder, zoo.LinearEncoder)


def test_what_asks_a_worker_takes_no_device(owner):
    for ask in (
        lambda: tr.connect("owner/cpu", zoo.Encoder, "any"),
        lambda: tr.withdraw("any", "owner/cpu"),
        lambda: tr.stats("owner/cpu"),
    ):
        with pytest.raises(PlaceError, match="without a device; name the worker alone: 'owner'"):
            ask()
    with pytest.raises(PlaceError, match=r"^where={.*}: not a string; write 'worker' or 'rank:N'$"):
        tr.connect({owner}, zoo.Encoder, "any")


def test_what_is_no_module_class(owner):
    with pytest.raises(MismatchError, match="pass the class and its args"):
        tr.create(owner, zoo.Encoder, zoo.LinearEncoder())
    with pytest.raises(MismatchError, match="cannot be called"):
        tr.create(owner, zoo.Encoder, "zoo.LinearEncoder")
    with pytest.raises(InterfaceError, match="an interface is a class"):
        tr.create(owner, "Encoder", zoo.LinearEncoder)


def test_a_method_that_does_not_compile_is_no_trouble_to_others(owner):
    class Good:
        def good(self, x: Tensor) -> Tensor: ...

    class Bad:
        def bad(self, x: Tensor) -> Tensor: ...

    for _ in range(2):  # torch keeps what is left of the first attempt
        with pytest.raises(CreationError, match="HalfGood cannot be scripted: .*\n?.*no_such_method"):
            tr.create(owner, Bad, zoo.HalfGood)
    assert torch.equal(tr.create(owner, Good, zoo.HalfGood).good(X), X + 1)


@pytest.mark.parametrize(
    "arguments", [{"args": 5}, {"args": "abc"}, {"args": None}, {"kwargs": [1]}, {"kwargs": {1: 2}}, {"args": X}]
)
def test_arguments_that_are_no_tuple_and_no_mapping(owner, arguments):
    with pytest.raises(ArgumentError, match="args="):
        tr.create(owner, zoo.Encoder, zoo.LinearEncoder, **arguments)


class Unwritable:
    def __repr__(self):
        raise LookupError


@pytest.mark.parametrize("value", [10**5000, Unwritable()], ids=["long", "unwritable"])
def test_values_that_cannot_be_written(owner, value):
    said = f"an object of class .*{type(value).__name__}"
    for error, arguments in (
        (ArgumentError, {"args": value}),
        (ArgumentError, {"kwargs": value}),
        (ArgumentError, {"kwargs": {value: 1}}),
        (ArgumentError, {"in_turn": value}),
        (ArgumentError, {"if_exists": value, "name": "any"}),
        (ArgumentError, {"gather": value}),
        (ArgumentError, {"checkpoint": value}),
        (ServedNameError, {"name": value}),
    ):
        with pytest.raises(error, match=f"{next(iter(arguments))}={said}|kwargs=an object of class dict"):
            tr.create(owner, zoo.Encoder, zoo.LinearEncoder, **arguments)
    with pytest.raises(ArgumentError, match=rf"args=\[\({said},\)\]"):
        tr.create_many([owner], zoo.Encoder, zoo.LinearEncoder, args=[value])
    with pytest.raises(PlaceError, match=f"where={said}: not a string"):
        tr.create(value, zoo.Encoder, zoo.LinearEncoder)
    with pytest.raises(MismatchError, match=f"module_cls: {said} cannot be called"):
        tr.create(owner, zoo.Encoder, value)


def test_a_partial_that_cannot_be_written(owner):
    with pytest.raises(CreationError, match=r"an object of class functools\.partial raised TypeError"):
        tr.create(owner, zoo.Encoder, functools.partial(zoo.LinearEncoder, no_such_argument=10**5000))


@pytest.mark.parametrize("name", ["", 5, ["list"]])
def test_names_that_are_none(owner, name):
    for act in (
        lambda: tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name=name),
        lambda: tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name=name, if_exists="replace"),
        lambda: tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name=name, if_exists="connect"),
        lambda: tr.create_many([owner], zoo.Encoder, zoo.LinearEncoder, names=[name]),
        lambda: tr.connect(owner, zoo.Encoder, name),
        lambda: tr.serve(zoo.LinearEncoder(), zoo.Encoder, name),
    ):
        with pytest.raises(ServedNameError, match="a string that is not empty"):
            act()


def test_a_caller_that_gives_up_leaves_nothing_behind(owner):
    before = hosted(owner)
    rpc.rpc_sync(owner, remote.close_gate)
    torch._C._distributed_rpc._set_rpc_timeout(0.3)
    try:
        with pytest.raises(TimeoutError):
            tr.create(owner, zoo.Encoder, remote.linear_behind_a_gate, (30,), name="given-up")
        with pytest.raises(TimeoutError):
            tr.create(owner, zoo.Encoder, remote.linear_behind_a_gate, (30,))
    finally:
        torch._C._distributed_rpc._set_rpc_timeout(30.0)
    rpc.rpc_sync(owner, remote.open_gate)
    until(lambda: rpc.rpc_sync(owner, remote.count_done) >= 2)
    until(lambda: hosted(owner) <= before)
    with pytest.raises(ServedNameError):
        tr.connect(owner, zoo.Encoder, "given-up")


def test_interface_and_class_that_are_swapped(owner):
    class Plain:
        def forward(self, x: Tensor) -> Tensor: ...

    def Factory():
        return zoo.LinearEncoder()

    for interface in (zoo.Encoder, Plain):
        for swapped in (zoo.LinearEncoder, torch.nn.Linear, Factory):
            with pytest.raises(
                MismatchError, match=rf"module_cls: {interface.__name__} is no torch\.nn\.Module; .*swapped\?"
            ):
                tr.create(owner, swapped, interface, args=(1,))


class OfLock:
    """Cannot be pickled, whoever imports it."""

    def __reduce__(self):
        raise TypeError("cannot pickle 'lock' object")


class RaisesOddly(torch.nn.Module):
    def __init__(self, error):
        super().__init__()
        raise error


@pytest.mark.parametrize(
    ("make", "args", "told"),
    [
        (zoo.LinearEncoder, (OfLock(),), "cannot pickle 'lock' object; send what can be pickled"),
        (RaisesOddly, (ValueError("no such weights"),), "ValueError: no such weights"),
        (zoo.LinearEncoder, (1, 2, 3, 4), "TypeError"),
    ],
)
def test_what_is_sent_and_raises(owner, make, args, told):
    with pytest.raises(CreationError, match=told) as caught:
        tr.create(owner, zoo.Encoder, make, args)
    assert "built here" not in str(caught.value)


# -- after RPC has ended


@tr.remote_scriptable
class Again:
    @tr.idempotent
    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor: ...
    def reset(self) -> None: ...


def lost_stubs():
    """Makes stubs, and replicas, of a module that is withdrawn then, so that they have to find it."""
    tr.create("gone", Again, zoo.LinearEncoder, name="lost")
    lost = {
        "stub": tr.connect("gone", Again, "lost"),
        "stub with a timeout": tr.connect("gone", Again, "lost", timeout=5),
        "replicas": tr.connect(["gone"], Again, "lost"),
    }
    tr.withdraw("lost", "gone")
    for one in lost.values():
        with pytest.raises((StaleStubError, NotInGroupError)):
            one.reset()
    return lost


def left_behind(store):
    stub = tr.create("gone", zoo.Encoder, zoo.LinearEncoder)
    state = tr.at_owner(stub)
    lost = lost_stubs()
    pending = stub.forward_async(X)
    pending.wait()
    creation = tr.create_async("gone", zoo.Encoder, zoo.LinearEncoder)
    until(creation.done)
    rpc.shutdown()
    model = torch.jit.script(Ranker(stub))
    for name, act in {
        "call": lambda: stub(X),
        "async": lambda: stub.forward_async(X).wait(),
        "packed": lambda: stub.topk(X, k=1),
        "many": lambda: stub.forward_many([(X,)]),
        "many_async": lambda: stub.forward_many_async([(X,)]).wait(),
        "with_timeout": lambda: tr.with_timeout(stub, 5)(X),
        "state_dict": tr.at_owner(stub).state_dict,
        "state_dict before": state.state_dict,
        "to": lambda: state.to("cpu"),
        "creation": creation.wait,
        "create": lambda: tr.create("gone", zoo.Encoder, zoo.LinearEncoder),
        "create_many": lambda: tr.create_many(["gone"], zoo.Encoder, zoo.LinearEncoder),
        "connect": lambda: tr.connect("gone", zoo.Encoder, "name"),
        "stats": lambda: tr.stats("gone"),
        "state_dict lost": tr.at_owner(lost["stub"]).state_dict,
        **{f"lost {kind}": one.reset for kind, one in lost.items()},
        **{f"lost {kind} async": lambda one=one: one.reset_async().wait() for kind, one in lost.items()},
        **{f"lost {kind} again": lambda one=one: one(X) for kind, one in lost.items()},
        **{f"lost {kind} again async": lambda one=one: one.forward_async(X).wait() for kind, one in lost.items()},
    }.items():
        try:
            print(name, "returned", act())
        except tr.TorchRemoteError as error:
            print(f"{name}: {type(error).__name__}, {'RPC is not running in this process' in str(error)}")
    (each,) = stub.forward_many([(X,)], return_exceptions=True)
    print(f"each: {type(each).__name__}, {'nothing was sent' in str(each)}")
    try:
        model(X)
    except RuntimeError as error:
        print("model: RuntimeError,", "RPC agent is not set" in str(error), flush=True)
    os._exit(0)  # `play` would shut down once more


def gone(store):
    pass


def test_after_shutdown_everything_says_that_rpc_is_not_running(tmp_path):
    told, _ = play(tmp_path, left_behind, gone, shared_memory=False)
    lines = told.strip().splitlines()
    found = dict(line.split(": ", 1) for line in lines if line.endswith((", True", ", False")))
    assert found.pop("model") == "RuntimeError, True"
    assert len(found) == 28
    assert set(found.values()) == {"NotInitializedError, True"}, told
