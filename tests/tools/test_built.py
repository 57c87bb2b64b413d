"""What `serve` builds: with examples, with a checkpoint, and of programs that have classes of their own."""

import dataclasses
import json
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from torchremote.tools import cli

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
