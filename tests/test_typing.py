"""mypy and pyright know what stubs return, find what is wrong, and raise no false alarm."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .docs.blocks import PAGES, ROOT, blocks_of

pytestmark = pytest.mark.timeout(300)  # where mypy has not read torch before
PROGRAM = Path(__file__).parent / "typed_program"
RAN = ("on trainer", "on ps", "alone")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The typed program, and the files and blocks of README and docs, with what `stubs` writes for their interfaces."""
    folder = tmp_path_factory.mktemp("typed")
    for path in PROGRAM.iterdir():
        shutil.copy(path, folder / path.stem)
    for page in sorted(PAGES, key="README".__ne__):
        lines = [""] * len(PAGES[page].read_text().splitlines())
        for block in blocks_of(page):
            if block.kind == "file" and not (folder / block.said).exists():
                (folder / block.said).write_text(block.text)
            elif block.kind in RAN:
                lines[block.line - 1 : block.line - 1 + block.text.count("\n")] = block.text.splitlines()
        (folder / f"page_{page}.py").write_text("\n".join(lines) + "\n")
    run(folder, "torchremote", "stubs", "parts", "policies", "interfaces", "interfaces:Shape")
    return folder


def run(folder, *command, allowed=False):
    """Runs a module. `allowed`: it may find something."""
    env = {**os.environ, "PYTHONWARNINGS": "ignore", "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", *command]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0 or (allowed and ": error: " in done.stdout.replace(" - ", ": ")), done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=["mypy", "pyright"])
def found(request, folder):
    """Returns what a checker found: by file and line, the message."""
    if request.param == "mypy":
        # With the options and the cache of `make lint`, which has read torch.
        options = ("--config-file", ROOT / "setup.cfg", "--cache-dir", ROOT / ".mypy_cache")
        told = run(folder, "mypy", *options, ".", allowed=True)
    else:
        (folder / "pyrightconfig.json").write_text(f'{{"extraPaths": ["{ROOT}"], "reportPrivateImportUsage": false}}')
        told = run(folder, "pyright", "--pythonpath", sys.executable, allowed=True)
    every = re.finditer(r"(\S+?):(\d+)(?::\d+)?:? -? ?error: .*", told)
    # In torch, what a module returns is Any.
    return {(Path(it[1]).name, int(it[2])): it[0] for it in every if not it[0].endswith("[no-any-return]")}


def test_a_checker_finds_what_is_wrong_and_nothing_else(found):
    text = (PROGRAM / "program.py.txt").read_text().splitlines()
    wrong = {number for number, line in enumerate(text, 1) if line.endswith("# wrong")}
    assert len(wrong) > 18
    told = {line: message for (file, line), message in found.items() if file == "program.py"}
    assert told.keys() == wrong, told


def test_no_false_alarm_in_files_with_interfaces_and_others(found):
    assert not [told for (file, _), told in found.items() if file != "program.py" and not file.startswith("page_")]


@pytest.mark.parametrize("page", PAGES)
def test_no_false_alarm_in_blocks_of_documentation(found, page):
    text = PAGES[page].read_text().splitlines()
    wrong = ("encoder(None)", "encoder(np.ones(", "encoder.topkk")  # to show the errors
    told = {line: message for (file, line), message in found.items() if file == f"page_{page}.py"}
    assert not {line: message for line, message in told.items() if not any(it in text[line - 1] for it in wrong)}
