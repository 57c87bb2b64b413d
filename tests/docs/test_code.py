"""Every block of code in README.md and docs/ runs."""

import json
import socket
import sys
from contextlib import ExitStack

import pytest

from .blocks import PAGES, ROOT, blocks_of, write_files
from .processes import PYTHON, finish, started


def pages_with(*kinds):
    return [page for page in PAGES if any(block.kind in kinds for block in blocks_of(page))]


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    """By page, the traceback of what failed on the two workers of all pages."""
    folder = tmp_path_factory.mktemp("pages")
    pages = pages_with("on trainer", "on ps")
    with ExitStack() as workers:
        running = []
        for name in ("trainer", "ps"):
            command = [sys.executable, "-m", "tests.docs.world", name, folder, *pages]
            # In the root, which the pages' own files are not in.
            running.append((workers.enter_context(started(command, folder / f"worker_{name}")), name))
        for program, name in running:
            finish(program, folder / f"worker_{name}", 90)
    return json.loads((folder / "failures.json").read_text())


@pytest.mark.parametrize("page", pages_with("on trainer", "on ps"))
def test_blocks_run_in_order(page, failures):
    assert page not in failures, failures[page]


@pytest.mark.parametrize("page", pages_with("alone"))
def test_blocks_run_alone(page, tmp_path):
    command = [sys.executable, "-m", "tests.docs.world", "alone", tmp_path, page]
    with started(command, tmp_path / "output") as program:
        finish(program, tmp_path / "output", 60)


@pytest.mark.parametrize("page", pages_with("run"))
def test_commands_run_as_written(page, tmp_path):
    write_files(page, tmp_path)
    (command,) = [block.text for block in blocks_of(page) if block.kind == "run"]
    assert command.count("29500") == 1
    with socket.socket() as free:
        free.bind(("localhost", 0))
        command = command.replace("29500", str(free.getsockname()[1]))
    with started(["bash", "-ec", f"{command}\nwait"], tmp_path, PYTHON) as program:
        told = finish(program, tmp_path, 60)
    assert "torch.Size([4, 128])" in told


def test_most_blocks_run():
    blocks = [block for page in PAGES for block in blocks_of(page)]
    assert len(blocks) > 30
    assert sum(block.kind == "not run" for block in blocks) * 8 < len(blocks)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= 1400
