"""The examples in the docstrings of groups."""

import doctest
import importlib

import pytest

from ..forks import Fork


@pytest.mark.timeout(150)
@pytest.mark.parametrize("module", ["join", "spawn"])
def test_examples_run(module, tmp_path):
    process = Fork(run, f"torchremote.group.{module}", output=tmp_path / "output")
    try:
        assert process.wait(120) == 0, (tmp_path / "output").read_text()
    finally:
        process.kill()
        process.wait()


def run(module):
    found = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert found.attempted > 5
    assert not found.failed
