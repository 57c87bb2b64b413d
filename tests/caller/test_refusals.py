"""What creating, serving and connecting refuse, with nothing left on the owner."""

import pytest
import torch
import torch.distributed.rpc as rpc
from torch import Tensor

import torchremote as tr
from torchremote.errors import ArgumentError, CreationError, InterfaceError, MismatchError, PlaceError, ServedNameError

from .. import owner_process as remote
from .. import zoo
from ..waiting import hosted, until

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
    with pytest.raises(ServedNameError, match="'never': not served by this worker"):
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
        ("nobody", r"there is no worker 'nobody'; the group has caller \(rank:0\), owner \(rank:1\)"),
        ("rank:7", "there is no worker 'rank:7'"),
        ("rank:x", "there is no worker 'rank:x'"),
        ("", "cannot be read"),
        ("owner/", "cannot be read"),
        ("owner/warp:1", "'warp:1' is no device"),
        ("owner/cuda:99", "not on this worker"),
        ("owner/hpu", "not on this worker"),
        ("owner/meta", "no data to compute with"),
        (3, "is not a string"),
    ],
)
def test_places_that_are_none(owner, where, message):
    with pytest.raises(PlaceError, match=message):
        tr.create(where, zoo.Encoder, zoo.LinearEncoder)


def test_a_served_module_stays_on_its_device(owner):
    with pytest.raises(PlaceError, match="write 'owner'"):
        tr.connect("owner/cpu", zoo.Encoder, "any")


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


@pytest.mark.parametrize("name", ["", 5, ["list"]])
def test_names_that_are_none(owner, name):
    for act in (
        lambda: tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name=name),
        lambda: tr.connect(owner, zoo.Encoder, name),
        lambda: tr.serve(zoo.LinearEncoder(), zoo.Encoder, name),
    ):
        with pytest.raises(ServedNameError, match="a string that is not empty"):
            act()


def test_what_the_owner_cannot_import(owner):
    with pytest.raises(CreationError, match="Encoder on owner: cannot be sent: .*importable by the owner"):
        tr.create(owner, zoo.Encoder, lambda: zoo.LinearEncoder())


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
