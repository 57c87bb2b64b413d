"""Errors that say what is missing, and where: names, operators of libraries, values that nest too deeply."""

import io
import sys
from typing import Any, List

import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote.errors import ArgumentError, CreationError, ServedNameError
from torchremote.link.failures import missing_operator

from .. import zoo


@tr.remote_scriptable
class Input:
    def forward(self, input: Tensor) -> Tensor: ...


# -- operators of libraries that the owner has not imported


class Suppressing(nn.Module):
    def forward(self, input: Tensor) -> Tensor:
        return torch.ops.torchvision.nms(input, input, 0.5)


class Registering(nn.Module):
    def __init__(self):
        super().__init__()
        self.operator = torch.ops.torchvision.roi_align

    def forward(self, input: Tensor) -> Tensor:
        return input


def using_a_library_of_ours():
    """A scripted module with an operator that only this process has."""
    library = torch.library.Library("of_the_caller", "FRAGMENT")
    library.define("same(Tensor x) -> Tensor")
    library.impl("same", lambda x: x, "CPU")

    class Using(nn.Module):
        def forward(self, input: Tensor) -> Tensor:
            return torch.ops.of_the_caller.same(input)

    return torch.jit.script(Using()), library


@pytest.mark.parametrize(
    ("make", "operator"), [(Suppressing, "torchvision::nms"), (Registering, "torchvision::roi_align")]
)
def test_an_operator_of_a_module(owner, make, operator):
    with pytest.raises(CreationError) as caught:
        tr.create(owner, Input, make)
    first = str(caught.value).splitlines()[0]
    assert first.startswith(f"Input on {owner}: ")
    assert first.endswith(
        f"the owner does not know the operator {operator}; import torchvision on the owner, or what defines it"
    )


def test_an_operator_of_a_scripted_module(owner):
    scripted, _library = using_a_library_of_ours()
    with pytest.raises(CreationError) as caught:
        tr.create(owner, Input, scripted)
    assert "of_the_caller::same; import of_the_caller on the owner" in str(caught.value).splitlines()[0]


@pytest.mark.parametrize(
    "message",
    [
        "",
        "object has no attribute nms",
        "Unknown builtin op",
        "object has no attribute a:\nb",
        "Unknown builtin op: aten::get_num_threads",  # torch's own are everywhere: TorchScript has no such operator
    ],
)
def test_other_messages_name_no_operator(message):
    assert missing_operator(message) == ""


# -- names that another worker does not serve


def test_a_name_says_whose(owner):
    for where in (owner, "caller"):
        with pytest.raises(
            ServedNameError, match=f"^Encoder on {where}: 'nowhere': not served by the worker '{where}'; "
        ):
            tr.connect(where, zoo.Encoder, "nowhere")
    with pytest.raises(ServedNameError, match="^'nowhere': not served by the worker 'caller'; "):
        tr.withdraw("nowhere")


def test_a_name_of_an_archive_says_whose(owner):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name="for_a_while")
    file = io.BytesIO()
    torch.jit.save(stub, file)
    torch.distributed.rpc.rpc_sync(owner, tr.withdraw, ("for_a_while",))
    file.seek(0)
    with pytest.raises(ServedNameError, match=f"not served by the worker '{owner}'"):
        tr.load(file)


# -- values that nest


@tr.remote_scriptable
class Nested:
    def forward(self, x: Any) -> int: ...
    def lists(self, x: List[List[int]]) -> int: ...


class NestedModule(nn.Module):
    def __init__(self, x: Any = None):
        super().__init__()

    def forward(self, x: Any) -> int:
        return 1

    def lists(self, x: List[List[int]]) -> int:
        return 1


def nested(wrap, levels):
    value = 1
    for _ in range(levels):
        value = wrap(value)
    return value


def within_itself():
    loop: list = []
    loop.append({"a": (loop,)})
    return loop


WRAPS = [lambda x: [x], lambda x: (x,), lambda x: {"a": x}]


@pytest.mark.parametrize("wrap", WRAPS, ids=["list", "tuple", "dict"])
@pytest.mark.parametrize("levels", [7, 2_000, 200_000])
def test_values_that_nest_deeply(owner, wrap, levels):
    stub = tr.create(owner, Nested, NestedModule)
    value = nested(wrap, levels)
    asks = [lambda: stub(value), lambda: stub.forward_async(value), lambda: stub.forward_many([(value,)])]
    for ask in [*asks, lambda: stub.lists(value)]:
        with pytest.raises(ArgumentError, match=r"^Nested\."):
            ask()
    if levels > (2_000 if sys.version_info >= (3, 13) else 1_000):  # from 3.13 on, Python pickles 2,000 levels
        with pytest.raises(CreationError, match="cannot be sent: .*nests too deeply: send a flatter one"):
            tr.create(owner, Nested, NestedModule, args=(value,))
        with pytest.raises(ArgumentError, match="nests too deeply to be pickled; pass a flatter one"):
            tr.RemoteModule(owner, NestedModule).forward(value)


def test_a_value_within_itself(owner):
    stub = tr.create(owner, Nested, NestedModule)
    with pytest.raises(ArgumentError, match="contains itself"):
        stub(within_itself())
    with pytest.raises(ArgumentError, match=r"calls\[1\].*contains itself"):
        stub.forward_many([(1,), (within_itself(),)])
    with pytest.raises(ArgumentError, match="is no int"):
        stub.lists([[within_itself()]])


@pytest.mark.parametrize("key", [(1, 2), None, 1.5, True, b"a", frozenset(), torch.float32])
def test_keys_that_cannot_cross(owner, key):
    stub = tr.create(owner, Nested, NestedModule)
    with pytest.raises(
        ArgumentError, match=r"^Nested\.forward\.x(\['a'\])?, its key .*: the keys of a dict inside Any"
    ):
        stub({key: 1})
    with pytest.raises(ArgumentError, match="the keys of a dict inside Any"):
        stub({"a": {key: 1}})


def test_keys_of_two_kinds(owner):
    with pytest.raises(ArgumentError, match="the keys of a dict inside Any are all str, or all int"):
        tr.create(owner, Nested, NestedModule)({1: 1, "a": 2})


def test_a_compiled_module_needs_the_native_part():
    said = "Unknown type name '__torch__.torch.classes.torchremote_native.Package':\n  File code.py"
    assert "run `python -m torchremote build-native` there" in missing_operator(said)
