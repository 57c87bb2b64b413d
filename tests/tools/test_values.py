"""Values as the command line writes them, by their types."""

import json
from typing import Any, Dict, List, Optional, Tuple

import numpy
import pytest
import torch
from torch import Tensor

from torchremote.errors import ArgumentError
from torchremote.jit import compile_interface
from torchremote.tools.values import ValueReader, as_json, as_text, save_file

from .. import zoo


class Taking:
    def forward(
        self,
        text: str,
        number: int,
        flag: bool,
        tensor: Tensor,
        maybe: Optional[Tensor],
        names: Dict[str, Tensor],
        counts: Dict[int, float],
        both: Tuple[int, List[str]],
        color: zoo.Color,
        pair: zoo.Pair,
        device: torch.device,
        dtype: torch.dtype,
        imaginary: complex,
        anything: Any,
    ) -> None: ...


@pytest.fixture(scope="module")
def read():
    compiled = compile_interface(Taking)
    reader, types = ValueReader(compiled.contract.classes), compiled.interface.method("forward").arguments
    return lambda name, text: reader.read(text, {one.name: one.type for one in types}[name], f"Taking.{name}")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("text", "12", "12"),
        ("text", "x.pt", "x.pt"),
        ("number", "-3", -3),
        ("flag", "true", True),
        ("maybe", "null", None),
        ("counts", '{"1": 0.5}', {1: 0.5}),
        ("both", '[1, ["a", "b"]]', (1, ["a", "b"])),
        ("color", "GREEN", zoo.Color.GREEN),
        ("device", "cpu", torch.device("cpu")),
        ("dtype", "float16", torch.float16),
        ("dtype", "torch.int8", torch.int8),
        ("imaginary", "[1, 2]", 1 + 2j),
        ("anything", '{"a": 1}', {"a": 1}),
        ("anything", "words", "words"),
    ],
)
def test_values(read, name, text, value):
    assert read(name, text) == value


def test_tensors(read, tmp_path):
    x = torch.rand(2, 3)
    torch.save(x, tmp_path / "x.pt")
    numpy.save(tmp_path / "x.npy", x.numpy())
    for file in ("x.pt", "x.npy"):
        for name in ("tensor", "maybe"):
            assert torch.equal(read(name, str(tmp_path / file)), x)
    assert torch.equal(read("tensor", "[[1.5, 2]]"), torch.tensor([[1.5, 2]]))
    names = read("names", json.dumps({"a": str(tmp_path / "x.pt"), "b": [1, 2]}))
    assert torch.equal(names["a"], x)
    assert torch.equal(names["b"], torch.tensor([1, 2]))
    for text in ('{"a": [1.0], "b": 4}', "[[1.0], 4]"):
        assert read("pair", text) == zoo.Pair(torch.tensor([1.0]), 4)
    assert read("pair", '{"a": [1.0]}').b == 3


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "number",
            "three",
            "Taking.number: 'three' is neither JSON, such as 3, true or [0.5, 1], nor a .pt or .npy file",
        ),
        ("tensor", '["a.b"]', "Taking.tensor: no tensor: "),
        ("color", "BLUE", "Taking.color: 'BLUE' is none of RED, GREEN"),
        ("pair", "[[1.0], 2, 3]", "Taking.pair: a tests.zoo.Pair is an object or a list of a, b; found "),
        ("pair", '{"a": [1.0], "c": 2}', "a tests.zoo.Pair is an object or a list of a, b"),
        ("device", "nowhere", "Taking.device: 'nowhere' is no device"),
        ("dtype", "nothing", "Taking.dtype: 'nothing' is no dtype; write one such as float32"),
        ("tensor", "absent.pt", "Taking.tensor: absent.pt: No such file or directory"),
    ],
)
def test_what_is_no_value(read, name, text, message):
    with pytest.raises(ArgumentError) as raised:
        read(name, text)
    assert message in str(raised.value)


def test_files_run_nothing(read, tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(ArgumentError, match=r"module.pt holds no tensors: "):
        read("tensor", str(tmp_path / "module.pt"))
    numpy.save(tmp_path / "objects.npy", numpy.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ArgumentError, match=r"objects.npy holds no tensors: "):
        read("tensor", str(tmp_path / "objects.npy"))


def test_results_are_written(tmp_path):
    x = torch.tensor([1.0, 2.0])
    result = (zoo.Pair(x, 4), {"color": zoo.Color.RED}, None, 1j)
    save_file(str(tmp_path / "y.pt"), result)
    pair, colors, *_ = torch.load(tmp_path / "y.pt", weights_only=True)
    assert torch.equal(pair["a"], x)
    assert colors == {"color": "RED"}
    assert as_json(result) == [{"a": [1.0, 2.0], "b": 4}, {"color": "RED"}, None, [0.0, 1.0]]
    assert as_text(zoo.Pair(x, 4)) == "a: tensor([1., 2.])\nb: 4"
    with pytest.raises(ArgumentError, match="write .pt or .json, or .npy for one tensor"):
        save_file(str(tmp_path / "y.npy"), result)
    with pytest.raises(ArgumentError, match="No such file or directory"):
        save_file(str(tmp_path / "absent" / "y.json"), result)
