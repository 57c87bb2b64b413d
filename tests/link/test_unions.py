"""A value that several members of a Union can have goes to the one that TorchScript itself would choose."""

from typing import Any, Dict, List, Optional, Tuple, Union

import hypothesis
import pytest
import torch
from torch import Tensor, nn

import torchremote as tr
from torchremote import testing
from torchremote.jit.read.annotations import read_type
from torchremote.link.values import PythonPacker
from torchremote.tools.values import ValueReader

NESTED = [
    (List[Union[float, str]], List[int]),
    (List[Optional[int]], List[int]),
    (List[Any], List[int]),
    (Dict[str, Any], Dict[str, Tensor]),
    (Dict[str, Union[float, str]], Dict[str, bool]),
    (Tuple[Union[float, str], int], Tuple[bool, int]),
    (List[List[Union[float, str]]], List[List[int]]),
    (List[Optional[str]], List[Union[int, float]], List[str], List[int]),
    (Dict[int, Any], Dict[int, List[Any]], Dict[int, List[complex]]),
]


def chosen(kind, value):
    """Returns the member of a Union as which `value` is packed."""
    packed = PythonPacker({}).pack(value, kind, "value")
    ((position, _),) = ((n, part) for n, part in enumerate(packed) if part is not None)
    return kind.items[position]


@pytest.mark.parametrize("members", NESTED, ids=str)
def test_the_member_is_the_one_that_torchscript_chooses(members):
    kind = read_type("value", Union[members])
    branches = [f"    if isinstance(x, {item}):\n        return {n}\n" for n, item in enumerate(kind.items)]
    compiled = torch.jit.CompilationUnit(f"def which(x: {kind}) -> int:\n{''.join(branches)}    return -1\n")
    compared = 0

    @hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
    @hypothesis.given(testing.values(kind))
    def compare(value):
        nonlocal compared
        try:
            expected = compiled.which(value)
        except RuntimeError:
            return  # TorchScript takes fewer values than a stub: no empty list, nor [1, "a"]
        compared += 1
        assert chosen(kind, value) is kind.items[expected]

    compare()
    assert compared > 2


@pytest.mark.parametrize(
    ("kind", "value", "member"),
    [
        (Union[List[Any], List[int]], (1, 2), "List[int]"),
        (Union[List[Union[float, str]], List[int]], (1, "a"), "List[Union[float, str]]"),
        (Union[List[Optional[int]], List[float]], (1, 2), "List[Optional[int]]"),
        (Union[Tuple[List[Any]], Tuple[List[Tensor]]], ((torch.ones(1),),), "Tuple[List[Tensor]]"),
    ],
)
def test_what_is_converted_goes_to_the_narrowest_member(kind, value, member):
    assert str(chosen(read_type("value", kind), value)) == member


def test_the_command_line_chooses_as_calls_do():
    kind = read_type("value", Union[Dict[str, Any], Dict[str, Tensor], Dict[str, Union[float, str]], Dict[str, int]])
    assert testing.same(ValueReader({}).read('{"a": 1}', kind, "value"), {"a": 1})
    assert testing.same(ValueReader({}).read('{"a": 1.5}', kind, "value"), {"a": 1.5})
    lists = read_type("value", Union[List[Tensor], List[int]])
    assert testing.same(ValueReader({}).read("[1, 2]", lists, "value"), [1, 2])


class Choosing:
    def listed(self, x: Union[List[Union[float, str]], List[int]]) -> Union[List[Union[float, str]], List[int]]: ...
    def default(
        self, x: Union[Tuple[Union[float, str], int], Tuple[int, int]] = (1, 2)
    ) -> Union[Tuple[Union[float, str], int], Tuple[int, int]]: ...


class ChoosingModule(nn.Module):
    @torch.jit.export
    def listed(self, x: Union[List[Union[float, str]], List[int]]) -> Union[List[Union[float, str]], List[int]]:
        return x

    @torch.jit.export
    def default(
        self, x: Union[Tuple[Union[float, str], int], Tuple[int, int]]
    ) -> Union[Tuple[Union[float, str], int], Tuple[int, int]]:
        return x


def test_a_value_and_a_default_reach_the_module_as_they_are(owner):
    stub = tr.create(owner, Choosing, ChoosingModule)
    assert testing.same(stub.listed([1, 2]), [1, 2])
    assert testing.same(stub.listed_many([([1.0],), ([1],)]), [[1.0], [1]])
    assert testing.same(stub.default(), (1, 2))
    assert testing.same(stub.default_many([()]), [(1, 2)])
