"""What TorchScript refuses is told a remedy. Each is done as it is written, and the module is hosted and right."""

import importlib.util
import itertools
import sys

import pytest
import torch
from torch import Tensor

import torchremote as tr
from torchremote.errors import CreationError

from . import remedied_attributes, remedied_bases, remedied_statements, remedied_syntax, remedied_values
from .remedied import HEAD

CASES = {
    **remedied_attributes.CASES,
    **remedied_values.CASES,
    **remedied_syntax.CASES,
    **remedied_bases.CASES,
    **remedied_statements.CASES,
}
count = itertools.count()


class OnTensor:
    def forward(self, x: Tensor) -> Tensor: ...


def made(source, tmp_path, monkeypatch):
    """Makes the module of a source, in a file of its own."""
    path = tmp_path / f"remedied_{next(count)}.py"
    path.write_text(HEAD + source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    file = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, file)  # where torch looks for sources
    spec.loader.exec_module(file)
    torch.manual_seed(0)
    return file.make().eval()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_a_module_with_the_remedy_is_hosted_and_right(owner, name, tmp_path, monkeypatch):
    source, *steps = CASES[name]
    original = made(source, tmp_path, monkeypatch)
    for said, edits in steps:
        with pytest.raises(CreationError) as refused:
            tr.serve(made(source, tmp_path, monkeypatch), OnTensor, "never")
        assert said in str(refused.value).rpartition("\nwhat to do: ")[2]
        file = HEAD + source
        for old, new in edits.items():
            assert old in file
            file = file.replace(old, new)
        source = file.removeprefix(HEAD)
    name = f"remedied {next(count)}"
    # Not in turn, which this process may be unable to do, after other tests.
    tr.serve(made(source, tmp_path, monkeypatch), OnTensor, name, in_turn=False)
    stub = tr.connect("caller", OnTensor, name)
    for _ in range(3):
        x = torch.rand(2, 4)
        outcomes = []
        for call in (original, stub):
            torch.manual_seed(1)
            outcomes.append(call(x))
        torch.testing.assert_close(outcomes[1], outcomes[0])


@pytest.mark.parametrize("name", ["a unary plus", "an else of a while", "a raise of nothing", "a dict in a dict"])
def test_what_torch_cannot_read_is_told_its_line(name, tmp_path, monkeypatch):
    source, *_ = remedied_syntax.CASES[name]
    with pytest.raises(CreationError, match=r"Module\.forward \(.*remedied_\d+\.py:\d+\): .* TorchScript cannot read"):
        tr.serve(made(source, tmp_path, monkeypatch), OnTensor, "never")
