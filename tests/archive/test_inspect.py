"""What an archive holds, read without running anything of it: good ones, damaged ones, hostile ones."""

import contextlib
import io
import os
import pickle
import zipfile
from dataclasses import replace

import pytest
import torch
import torch.distributed.rpc as rpc
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import torchremote as tr
from torchremote.archive import inspect
from torchremote.archive.inspect import stubs_in_archive
from torchremote.errors import ArchiveError
from torchremote.jit.read.parse import parse_interface
from torchremote.tools import cli

from .. import zoo
from ..caller.test_calls import Ranker
from .archiving import encoder as encoder
from .archiving import saved

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_inspect_lists_the_stubs(encoder, tmp_path, capsys):
    torch.jit.save(torch.jit.script(Ranker(encoder)), tmp_path / "model.pt")
    assert cli.main(["inspect", str(tmp_path / "model.pt")]) == 0
    assert capsys.readouterr().out == (
        "encoder: tests.zoo.Encoder\n"
        "  worker 'owner', name 'encoder', timeout 7 s, digest 883caaec2eaf7713, protocol 2\n"
        "  fail(x: Tensor) -> Tensor\n"
        "  forward(x: Tensor, scale: float = 1.0) -> Tensor\n"
        "  reset() -> None\n"
        "  topk(x: Tensor, *, k: int = 2) -> Tuple[Tensor, Tensor]\n"
    )
    torch.jit.save(torch.jit.script(nn.Linear(1, 1)), tmp_path / "plain.pt")
    assert cli.main(["inspect", str(tmp_path / "plain.pt")]) == 0
    assert capsys.readouterr().out == "no stubs\n"
    assert cli.main(["inspect", str(tmp_path / "none.pt")]) == 1
    assert "none.pt: No such file" in capsys.readouterr().err


def with_data(archive, data):
    """The same archive with another data.pkl."""
    changed = io.BytesIO()
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            new.writestr(name, data if name.endswith("/data.pkl") else old.read(name))
    changed.seek(0)
    return changed


class Evil:
    def __reduce__(self):
        return os.abort, ()


def data_of(archive):
    with zipfile.ZipFile(archive) as file:
        return next(file.read(name) for name in file.namelist() if name.endswith("/data.pkl"))


@pytest.mark.parametrize("protocol", range(6))
def test_what_would_run_code_is_not_run(encoder, protocol):
    archive = with_data(saved(encoder), pickle.dumps([Evil(), Evil()], protocol))
    with pytest.raises(ArchiveError, match=r"torch writes no|data\.pkl is no module"):
        stubs_in_archive(archive)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"forward(x: Tensor, ", b"forward(y: Tensor, ", "was not written by torchremote"),
        (b"fail(x: Tensor)", b"fail(x: import)", "not a canonical|not written by a torchremote like this"),
        (b"G@", b"N.", "not a TorchScript archive"),
        (b"q\x00", b"r\xff\xff\xff\x7f", "not numbered as torch does"),
    ],
)
def test_what_was_tampered_with_is_an_error(encoder, old, new, message):
    archive = saved(encoder)
    data = data_of(archive)
    assert old in data
    with pytest.raises(ArchiveError, match=message):
        stubs_in_archive(with_data(archive, data.replace(old, new)))


def test_a_truncated_archive_is_an_error(encoder):
    content = saved(torch.jit.script(Ranker(encoder))).getvalue()
    for length in (0, 1, 100, len(content) // 2, len(content) - 1):
        with pytest.raises(ArchiveError):
            stubs_in_archive(io.BytesIO(content[:length]))


@settings(max_examples=300)
@given(st.data())
def test_any_damage_is_an_error_or_harmless(archived, data):
    at = data.draw(st.integers(0, len(archived) - 1))
    new = data.draw(st.binary(min_size=1, max_size=8))
    with contextlib.suppress(ArchiveError):
        stubs_in_archive(io.BytesIO(archived[:at] + new + archived[at + len(new) :]))


@pytest.fixture(scope="module")
def archived(owner):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name="archived")
    yield saved(torch.jit.script(Ranker(stub))).getvalue()
    rpc.rpc_sync(owner, tr.withdraw, ("archived",))


# -- what would take all memory, all time, or the stack


def module_of(program):
    """A pickle of a module with one attribute, which `program` makes."""
    return b"\x80\x02c__torch__.m M\n".replace(b" ", b"\n") + b")\x81}X\x01\x00\x00\x00a" + program + b"sb."


@pytest.mark.parametrize(
    "program",
    [
        b"}" + b")" + b"\x85" * 290_000 + b"Ks",  # a key that is tuples in tuples
        b"](" + b"]" * 290_000 + b"e",
        b"]" * 500_000,
        b"N" * 500_000,
        b"c__torch__.m\nM\n)\x81}X\x01\x00\x00\x00b" * 20_000,
        b"j\xff\xff\xff\x7f",
        b"a" * 100,
        b"t\x85\x86\x87",
    ],
)
def test_hostile_programs_end_soon(encoder, monkeypatch, program):
    monkeypatch.setattr(inspect, "_OPERATIONS_AT_MOST", 300_000)
    with contextlib.suppress(ArchiveError):
        stubs_in_archive(with_data(saved(encoder), module_of(program)))


def test_types_that_nest_without_end_are_refused(encoder):
    tuples = ["tuple q.T0(a: Tensor)"]
    tuples += [f"tuple q.T{n}(a: q.T{n - 1}, b: q.T{n - 1})" for n in range(1, 60)]
    text = "\n".join([*tuples, "forward(x: q.T59) -> Tensor"])
    with pytest.raises(ValueError, match="types that nest to more than"):
        parse_interface("__torch__.q.Deep", text)


def test_what_a_terminal_would_obey_is_shown(encoder):
    assert "\\x1b" in str(replace(stubs_in_archive(saved(encoder))[0], worker="\x1b[2J", name="\x9b2J"))
    assert "\x1b" not in str(replace(stubs_in_archive(saved(encoder))[0], path="\x1b[2J"))
