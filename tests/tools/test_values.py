"""Values as the command line writes them, by their types."""

import functools
import json
from typing import Any, Dict, List, Optional, Tuple, Union

import numpy
import pytest
import torch
from torch import Tensor

from torchremote.errors import ArgumentError
from torchremote.jit import compile_interface
from torchremote.tools.calling import _arguments
from torchremote.tools.results import as_json, as_text, save_file
from torchremote.tools.values import ValueReader

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
            "Taking.number: 'three' is no int: it is neither JSON, such as 3, true or [0.5, 1], nor a .pt or .npy file",
        ),
        ("number", "number=3", " nor a .pt or .npy file; an argument is named as in --number 3"),
        ("tensor", '["a.b"]', "Taking.tensor: no tensor: "),
        ("color", "BLUE", "Taking.color: 'BLUE' is none of RED, GREEN"),
        ("pair", "[[1.0], 2, 3]", "Taking.pair: a tests.zoo.Pair is an object or a list of a, b; found "),
        ("pair", '{"a": [1.0], "c": 2}', "a tests.zoo.Pair is an object or a list of a, b"),
        ("pair", "{}", "a tests.zoo.Pair is an object or a list of a, b; found {}"),
        ("pair", "[[[1], [2, 3]], 4]", "Taking.pair.a: no tensor: "),
        ("pair", '{"a": "absent.pt"}', "Taking.pair.a: absent.pt: No such file or directory"),
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


@pytest.mark.parametrize("whole", [b"", b"\x80\x02"])
@pytest.mark.parametrize("ending", [".pt", ".npy"])
def test_an_empty_or_cut_file_is_an_error_of_its_own(read, tmp_path, whole, ending):
    file = tmp_path / f"cut{ending}"
    file.write_bytes(whole)
    with pytest.raises(ArgumentError, match=rf"cut\{ending} holds no tensors: ."):
        read("tensor", str(file))


def test_tensors_of_bits_are_shown_without_numbers():
    bits = torch.zeros(2, dtype=torch.uint8).view(torch.bits8)
    shown = "tensor(dtype=torch.bits8, size=(2,))"
    assert as_json({"y": [bits]}) == {"y": [shown]}
    assert as_text(bits) == shown
    assert as_text((bits, torch.ones(1))) == f"{shown}\ntensor([1.])"
    assert as_text({"y": [bits, 4]}) == f"{{'y': [{shown}, 4]}}"
    assert as_text(zoo.Pair(bits, 4)) == f"a: {shown}\nb: 4"


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


def test_numbers_that_json_does_not_have_are_strings(tmp_path):
    inf, nan = float("inf"), float("nan")
    save_file(str(tmp_path / "y.json"), (torch.tensor([[inf, 1.0], [-inf, nan]]), {"a": nan}, complex(0, -inf)))

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    assert json.loads((tmp_path / "y.json").read_text(), parse_constant=refuse) == [
        [["Infinity", 1.0], ["-Infinity", "NaN"]],
        {"a": "NaN"},
        [0.0, "-Infinity"],
    ]


class Choosing:
    def forward(
        self,
        color: Union[zoo.Color, int, Tensor] = 0,
        word: Union[zoo.Color, str] = "",
        codes: Optional[Dict[torch.dtype, int]] = None,
        waves: Optional[Dict[complex, int]] = None,
        counts: Optional[Dict[float, int]] = None,
        rows: Optional[Dict[Tensor, int]] = None,
        imaginary: complex = 0,
        number: float = 0.0,
        timeout: float = 0.0,
    ) -> None: ...


class Named:
    def forward(self, x: int, *, k: int = 5, json: str = "") -> None: ...


OPTIONS = ("--json", "--timeout")  # of the command itself


@pytest.fixture(scope="module")
def arguments():
    compiled = compile_interface(Choosing)
    method = compiled.interface.method("forward")
    return lambda *texts, taken=(): _arguments(list(texts), method, compiled, "ps/m", OPTIONS, taken)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("color", "GREEN", zoo.Color.GREEN),
        ("color", "3", 3),
        ("word", "GREEN", "GREEN"),
        ("codes", '{"float32": 1, "torch.int8": 2}', {torch.float32: 1, torch.int8: 2}),
        ("waves", '{"[1, 2]": 1, "3": 2}', {1 + 2j: 1, 3: 2}),
        ("number", "-1e5", -1e5),
        ("number", "-Infinity", float("-inf")),
        ("number", "-5E-1", -0.5),
    ],
)
def test_values_of_unions_keys_and_negative_numbers(arguments, name, text, value):
    assert arguments(f"--{name}", text) == {name: value}


def test_tensors_in_a_union_and_as_keys(arguments):
    assert torch.equal(arguments("[1, 2]")["color"], torch.tensor([1, 2]))
    ((key, one),) = arguments("--rows", '{"[1, 2]": 3}')["rows"].items()
    assert torch.equal(key, torch.tensor([1, 2]))
    assert one == 3


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("imaginary", '[1, "a"]', "is no complex"),
        ("imaginary", "[1]", "is no complex"),
        ("counts", '{"1": 1, "1.0": 2}', "its key '1.0' is the same float as another"),
        ("counts", '{"1": 1, "1": 2}', "'1' is there twice"),
        ("codes", '{"float32": 1, "torch.float32": 2}', "is the same dtype as another"),
        ("codes", '{"half past": 1}', "is no dtype"),
        ("waves", '{"[1, null]": 1}', "is no complex"),
    ],
)
def test_what_is_no_value_of_these(arguments, name, text, message):
    with pytest.raises(ArgumentError, match=message):
        arguments(f"--{name}", text)


def test_a_name_that_is_also_an_option_of_the_command_is_refused(arguments, capsys):
    assert arguments("--timeout", "1") == {"timeout": 1}
    with pytest.raises(SystemExit):
        arguments(taken={"--timeout"})
    assert "write the option before ps/m" in capsys.readouterr().err


def test_arguments_behind_the_star_need_their_names(capsys):
    compiled = compile_interface(Named)
    read = functools.partial(_arguments, method=compiled.interface.methods[0], compiled=compiled, target="ps/m")
    assert read(["1", "--k", "2"], own=OPTIONS) == {"x": 1, "k": 2}
    assert read(["1", "text"], own=OPTIONS) == {"x": 1, "json": "text"}  # which has no other way
    with pytest.raises(SystemExit):
        read(["1", "2"])
    assert "2 values for 1 argument; those behind the * need their names: --k, --json" in capsys.readouterr().err
