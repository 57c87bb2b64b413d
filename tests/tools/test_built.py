"""What `serve` builds: with examples, with a checkpoint, and of programs that have classes of their own."""

import dataclasses
import json
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from torchremote import _torch
from torchremote.tools import cli

from ..forks import Fork
from .commands import programs, run_commands

pytestmark = pytest.mark.timeout(300)

HERE = "tests.tools.test_built"
NOWHERE = ("--name", "x", "--worker", "w", "--address", "127.0.0.1:1", "--no-counts")


@dataclasses.dataclass
class Output:
    doubled: Tensor
    total: Tensor


class Doubled(NamedTuple):
    doubled: Tensor
    total: Tensor


class Doubler:
    def forward(self, x: Tensor) -> Doubled: ...


class Doubling(torch.nn.Module):  # TorchScript refuses dataclasses
    def __init__(self, factor=2.0):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(factor))

    def forward(self, x):
        return Output(self.factor * x, x.sum())


EXAMPLES = {"forward": (torch.ones(2, 3),)}


def make_examples():
    return EXAMPLES


def raising():
    raise KeyError("nothing")


@pytest.fixture
def start():
    with programs() as start:
        yield start


def test_a_class_is_served_with_examples_and_a_checkpoint(start, tmp_path):
    torch.save({"factor": torch.tensor(5.0)}, tmp_path / "state.pt")
    hub = start(tmp_path / "hub", "hub", "--address", "127.0.0.1:0")
    address = hub.said(r"listens on (\S+)")[1]
    serve = ("serve", f"{HERE}:Doubling", "--interface", f"{HERE}:Doubler", "--name", "doubler", "--address", address)
    owner = start(
        *(tmp_path / "a", *serve, "--worker", "a", "--examples", f"{HERE}:make_examples"),
        *("--checkpoint", str(tmp_path / "state.pt"), "--eval"),
    )
    owner.said("^serving Doubler as a/doubler")
    ((status, out, err),) = run_commands(
        tmp_path, ("call", "--address", address, "--json", "a/doubler", "[[1.0, 2.0, 3.0]]")
    )
    assert status == 0, err
    assert json.loads(out) == {"doubled": [[5.0, 10.0, 15.0]], "total": 6.0}
    assert owner.end()[0] == 0


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (f"{HERE}:NOTHING", "has no attribute 'NOTHING'"),
        (f"{HERE}:NOWHERE", "tuple is no mapping; name one from each method to its arguments, as in {'forward': (x,)}"),
        (f"{HERE}:raising", "raising raised KeyError: 'nothing'"),
    ],
)
def test_examples_that_are_none(examples, message, capsys):
    command = ["serve", f"{HERE}:Doubling", "--interface", f"{HERE}:Doubler", "--examples", examples, *NOWHERE]
    assert cli.main(command) == 1
    assert message in capsys.readouterr().err


def test_help_says_what_a_factory_may_return(capsys):
    with pytest.raises(SystemExit):
        cli.main(["serve", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "a class or factory of modules, which may also return torchremote.exported(...)" in said
    assert "--examples package.module:examples" in said


def save_program(path):
    """Is run by another process: this one is not to know the class."""
    torch.export.register_dataclass(Output, serialized_type_name=f"{HERE}.Output")
    torch.export.save(torch.export.export(Doubling(), EXAMPLES["forward"]), path)


def test_a_program_that_returns_a_dataclass_needs_an_interface_that_registers_it(tmp_path):
    program = tmp_path / "doubler.pt2"
    assert Fork(save_program, str(program), output=tmp_path / "saving").wait(100) == 0
    serve = ("serve", program, *NOWHERE)
    results = run_commands(
        tmp_path,
        serve,
        (*serve, "--interface", f"{HERE}:Doubler"),
        (*serve, "--interface", "tests.tools.registering:Doubler"),
    )
    assert [status for status, _, _ in results] == [1] * 3
    for _, _, said in results[:2]:
        assert f"it takes or returns a {HERE}.Output, which is not registered in this process" in said
        assert f"torch.export.register_dataclass(Output, serialized_type_name='{HERE}.Output')" in said
    assert "no hub can be reached" in results[2][2]
    assert "Traceback" not in (tmp_path / "output").read_text()


class Mixed(torch.nn.Module):
    def forward(self, x):
        return {"doubled": 2 * x, "count": 3}


def test_a_program_whose_interface_has_to_be_written(tmp_path, capsys):
    torch.export.save(torch.export.export(Mixed(), EXAMPLES["forward"]), tmp_path / "mixed.pt2")
    assert cli.main(["serve", str(tmp_path / "mixed.pt2"), *NOWHERE]) == 1
    said = capsys.readouterr().err
    assert "mixed.pt2: a dict of Tensor, int: write an interface that declares it" in said
    assert "torchremote serve takes it as --interface package.module:Interface" in said


def test_an_archive_error_without_a_text_is_named(tmp_path, monkeypatch, capsys):
    def load(*_, **__):
        raise EOFError

    monkeypatch.setattr(_torch, "load_scripted", load)
    command = ["serve", str(tmp_path / "empty.pt"), "--interface", f"{HERE}:Doubler", *NOWHERE]
    assert cli.main(command) == 1
    assert "empty.pt: torch.jit cannot load it: EOFError; write it" in capsys.readouterr().err


@pytest.mark.parametrize("damage", [lambda whole: whole[:300], lambda whole: b"PK", lambda whole: b"hello"])
def test_a_broken_program_is_one_line(damage, tmp_path):
    file = tmp_path / "linear.pt2"
    torch.export.save(torch.export.export(torch.nn.Linear(3, 3), EXAMPLES["forward"]), file)
    file.write_bytes(damage(file.read_bytes()))
    ((status, _, said),) = run_commands(tmp_path, ("serve", file, *NOWHERE))
    assert status == 1
    assert said.splitlines() == [
        f"torchremote: building {file}",
        f"torchremote: {file}: torch.export cannot load it: it is damaged, or no program; write it again with "
        "torch.export.save",
    ]
    assert (tmp_path / "output").read_text() == ""
