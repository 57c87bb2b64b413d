"""What holds no tensor that changes stays the very object; what does is copied, and is of the same class."""

import collections
import dataclasses
import enum
import typing

import pytest
import torch
import torch.utils._pytree as pytree
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from torchremote.dropin.remote_module import RemoteModule
from torchremote.errors import ArgumentError
from torchremote.link.tensors_within import changed, parts_of, with_changes

X = torch.ones(2, 3)


class Both(typing.NamedTuple):
    left: object
    right: object


class Marked(Both):
    """Derives from a NamedTuple, and has attributes beside its items."""


class Sizes(tuple):
    pass


class Words(list):
    pass


class Level(enum.Enum):
    LOW = 1


@dataclasses.dataclass(eq=False)
class Point:
    x: object
    note: str = "made anew"


class Registered:
    def __init__(self, tensor, note="made anew"):
        self.tensor, self.note = tensor, note


class Broken(Registered):
    """Its class cannot take it apart."""


def refuse(*_):
    raise RuntimeError("not now")


pytree.register_pytree_node(Registered, lambda it: ([it.tensor], None), lambda parts, _: Registered(*parts))
pytree.register_pytree_node(Broken, refuse, refuse)
pytree.register_dataclass(Point, field_names=["x"], drop_field_names=["note"])


def marked():
    value = Marked(X, 1)
    value.note = "mine"
    return value


OTHERS = [
    X.shape,
    (X.shape, {"a": [X.shape]}),
    Sizes((1, 2)),
    Words(["a"]),
    Level.LOW,
    Point(X, "mine"),
    Registered(X, "mine"),
    Broken(X, "mine"),
    collections.OrderedDict(a=1),
    collections.Counter("ab"),
    {1, 2},
    range(3),
    [],
    (),
    Both([1], {"a": (2,)}),
]


@pytest.mark.parametrize("value", OTHERS, ids=lambda value: type(value).__name__)
def test_what_has_no_such_tensor_is_the_same_object(value):
    assert changed(value, lambda tensor: tensor + 1) is value
    around = [value, X]
    assert changed(around, lambda tensor: tensor + 1)[0] is value
    assert changed(around, lambda tensor: tensor) is around


@pytest.mark.parametrize(
    ("value", "find"),
    [
        ([X, 1], lambda value: value[0]),
        ((X,), lambda value: value[0]),
        ({"a": X}, lambda value: value["a"]),
        (collections.OrderedDict(b=1, a=X), lambda value: value["a"]),
        (collections.defaultdict(list, a=X), lambda value: value["a"]),
        (collections.deque([X, 1], maxlen=2), lambda value: value[0]),
        (Both(1, X), lambda value: value.right),
        (marked(), lambda value: value.left),
        (X.max(0), lambda value: value.values),
        (pack_sequence([X[0], X[1, :2]]), lambda value: value.data),
    ],
    ids=lambda value: type(value).__name__,
)
def test_containers_are_copied_as_what_they_are(value, find):
    copied = changed([value], lambda tensor: tensor * 2)[0]
    assert type(copied) is type(value)
    assert torch.equal(find(copied), find(value) * 2)
    assert vars(copied) == vars(value) if hasattr(value, "__dict__") else len(copied) == len(value)
    for name in ("maxlen", "default_factory"):
        assert getattr(copied, name, None) == getattr(value, name, None)


def test_keys_change_as_values_do():
    other = X + 1
    value = {"first": 1, X: X, (other, 2): "b", frozenset({other}): None}
    copied = changed(value, lambda tensor: tensor * 2)
    first, tensor, pair, frozen = copied
    assert list(copied.values())[::2] == [1, "b"]
    assert copied[tensor] is tensor is not X
    assert first == "first"
    assert torch.equal(pair[0], other * 2)
    assert frozen == {pair[0]}
    assert list(value)[1] is X
    counted = changed(collections.defaultdict(list, {X: 1}), lambda tensor: tensor * 2)
    assert counted.default_factory is list
    assert X not in counted


@pytest.mark.parametrize("kind", [set, frozenset])
def test_sets_are_copied(kind):
    value = kind({X, 1})
    copied = changed([value], lambda tensor: tensor * 2)[0]
    assert type(copied) is kind
    assert len(copied) == 2
    assert 1 in copied
    assert X in value
    assert X not in copied


def test_what_stands_in_two_places_still_does():
    shared = [X]
    first, second, tensor = changed((shared, {"a": shared}, X), lambda tensor: tensor + 1)
    assert second["a"] is first
    assert tensor is first[0]


def test_a_list_that_contains_itself():
    loop = [1]
    loop.append(loop)
    assert changed(loop, lambda tensor: tensor + 1) is loop
    loop.append(X)
    copied = changed(loop, lambda tensor: tensor + 1)
    assert copied[1] is copied is not loop


def test_paths_are_as_they_are_written():
    value = {"a": [Both(X, 1)]}
    assert [str(path) for _, path in parts_of(value)] == ["['a'][0].left"]
    assert with_changes(value, []) is value
    assert [str(path) for _, path in parts_of({(1, "a"): X})] == ["[(1, 'a')]"]
    value = {X: 1, (X + 1, 2): X + 2}
    assert [str(path) for _, path in parts_of(value)] == ["[(<Tensor>, 2)][0]", "[<Tensor>]", "[(<Tensor>, 2)]"]


# -- through a remote module


class Echo(nn.Module):
    def forward(self, value):
        return str(type(value)), getattr(value, "note", None), value


@pytest.mark.parametrize(
    "value",
    [X.shape, Words(["a"]), Point(X, "mine"), Registered(X, "mine"), Broken(X, "mine"), marked(), Level.LOW],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("grad", [True, False])
def test_values_arrive_as_what_they_are(owner, value, grad):
    with torch.set_grad_enabled(grad):
        kind, note, back = RemoteModule(owner, Echo)(value)
    assert (kind, type(back)) == (str(type(value)), type(value))
    assert note == getattr(back, "note", None) == getattr(value, "note", None)


class Weighted(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(X.clone())

    def forward(self, x):
        y = x * self.weight
        many = collections.deque([y], maxlen=3)
        return {"sizes": y.shape, "max": y.max(0), "many": many, "set": {y}, "keys": {y * 2: 1}}


def test_results_are_detached_where_they_have_to_be(owner):
    module = RemoteModule(owner, Weighted)
    assert module(X)["max"].values.requires_grad
    with torch.no_grad():
        found = module(X)
    assert type(found["sizes"]) is torch.Size
    assert type(found["max"]) is torch.return_types.max
    assert found["many"].maxlen == 3
    parts = (found["max"].values, found["many"][0], *found["set"], *found["keys"])
    assert not any(part.requires_grad for part in parts)


def test_tensors_that_are_keys_or_in_sets_are_sent_as_others_are(owner):
    behind = torch.empty(4).as_strided((0,), (1,), 7)
    module = RemoteModule(owner, Echo)
    for value in ({behind: 1}, {(behind, 1): 1}, {behind}, frozenset({behind})):
        *_, back = module(value)
        assert type(back) is type(value)
        (found,) = back
        assert (found[0] if isinstance(found, tuple) else found).shape == (0,)


def test_a_key_is_not_shown_before_it_was_checked(owner):
    emptied = torch.ones(4)
    emptied.untyped_storage().resize_(0)  # its repr ends the process
    for value in ({emptied: 1}, {(emptied, 1): X}, {Point(emptied): X.to("meta")}):
        with pytest.raises(ArgumentError, match=r"RemoteModule\.forward\.args\[0\]\["):
            RemoteModule(owner, Echo)(value)


def test_tensors_of_registered_objects_are_checked_all_the_same(owner):
    with pytest.raises(ArgumentError, match=r"RemoteModule\.forward\.args\[0\]\['a'\]: a meta tensor"):
        RemoteModule(owner, Echo)({"a": Registered(X.to("meta"))})
    behind = X[:0].as_strided((0,), (1,), 6)
    with pytest.raises(
        ArgumentError, match="an empty tensor in a Point begins behind the end of its storage; clone it"
    ):
        RemoteModule(owner, Echo)(Point(behind))
