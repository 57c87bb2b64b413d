"""What an archive holds, read without running anything of it: good ones, damaged ones, hostile ones."""

import contextlib
import io
import os
import pickle
import struct
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
    ("program", "refusal"),
    [
        (b"}" + b")" + b"\x85" * 290_000 + b"K\x00s", None),  # a key that is tuples in tuples
        (b"](" + b"]" * 290_000 + b"e", None),
        (b"]" * 500_000, "more than 300000 operations"),
        (b"N" * 500_000, "more than 300000 operations"),
        (b"c__torch__.m\nM\n)\x81}X\x01\x00\x00\x00b" * 20_000 + b"N" + b"sb" * 20_000, "no path of"),
        (b"j\xff\xff\xff\x7f", "IndexError"),
        (b"a" * 100, "AttributeError"),
        (b"t\x85\x86\x87", "IndexError"),
    ],
)
def test_hostile_programs_have_no_stubs_or_are_refused(encoder, monkeypatch, program, refusal):
    """All limits are of what a file may hold, so each ends. See also the limit of time of the whole suite."""
    monkeypatch.setattr(inspect, "_OPERATIONS_AT_MOST", 300_000)
    archive = with_data(saved(encoder), module_of(program))
    if refusal is None:
        assert stubs_in_archive(archive) == []
    else:
        with pytest.raises(ArchiveError, match=refusal):
            stubs_in_archive(archive)


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def put(number):
    return b"r" + struct.pack("<I", number)


def get(number):
    return b"j" + struct.pack("<I", number)


def zipped(data, compression=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("m/data.pkl", data)
    file.seek(0)
    return file


def stub(declaration, name="__torch__.q.Face", scope=None, worker="w"):
    """A program that makes a stub, with an operation that puts the declaration into a place of the memo."""
    if scope is None:
        interface = parse_interface(name, declaration)
        scope = f"{interface.name}_{interface.digest}"
    address = b"(K\x02" + text(name) + text(declaration) + text(worker) + text("served") + b"G" + bytes(8) + b"t"
    return f"c__torch__.torchremote.protocol_2.{scope}.stub\nStub\n)\x81".encode("latin1") + address + b"\x88\x86b"


def model(attributes):
    """A pickle of a module with these attributes: pairs of a name and a program."""
    items = b"".join(text(name) + program for name, program in attributes)
    return b"\x80\x02c__torch__.m\nM\n)\x81}(" + items + b"ub."


FORWARD = "forward(x: Tensor) -> Tensor"
MANY = "\n".join(f"m{number:05}(x: Tensor) -> Tensor" for number in range(500))


def shared(count):
    """A model that holds one stub under `count` names, in a few bytes for each."""
    again = [(f"a{number}", get(0)) for number in range(count)]
    return zipped(model([("first", stub(MANY) + put(0)), *again]))


def tuples_in_tuples():
    data = b"\x80\x02]" + put(0) + b"".join(get(level - 1) + b"\x86" + put(level) for level in range(1, 40))
    return zipped(data + b")\x81.")


def chained(count):
    types = ["tuple q.T0(a: Tensor)", *(f"tuple q.T{n}(a: q.T{n - 1})" for n in range(1, count))]
    return "\n".join([*types, f"forward(x: q.T{count - 1}) -> Tensor"])


UNION = f"f(x: Union[{', '.join(sorted('Tuple[' + ', '.join(['int'] * n) + ']' for n in range(1, 400)))}]) -> int"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (tuples_in_tuples, "an object of no class"),
        (lambda: shared(3000), "more than 2000000 characters would be said of its stubs"),
        (lambda: zipped(bytes(200_000_000)), "its data.pkl has more than"),
        (lambda: zipped(bytes(10_000_000), zipfile.ZIP_BZIP2), "compressed as torch does not"),
        (lambda: zipped(bytes(10_000_000), zipfile.ZIP_LZMA), "compressed as torch does not"),
        (lambda: zipped(b"\x80\x02c" + b"a" * 5_000_000 + b"\nb\n)\x81."), "a class whose name has more than 10000"),
        (lambda: zipped(model([("a", stub("f() -> int\n" * 110_000, scope="x"))])), "declare more than 1000000"),
        (lambda: zipped(model([("a", stub(chained(400), scope="x"))])), "declare more than 1000000"),
        (lambda: zipped(model([("a", stub(UNION, scope="x"))])), "declare more than 1000000"),
        (lambda: zipped(model([("a", stub(f"f(x: {'List[' * 50_000}) -> int", scope="x"))])), "a: not written by a"),
        (
            lambda: zipped(model([("a", stub(f"f(x: int = {'-' * 900_000}1) -> int", scope="x"))])),
            "a: not written by a",
        ),
    ],
)
def test_what_would_keep_inspect_for_long_or_fill_the_screen(tmp_path, make, message):
    """Each is refused in a second or two on one core. Here are no limits of time, but the whole suite has one."""
    path = tmp_path / "hostile.pt"
    path.write_bytes(make().getvalue())
    with pytest.raises(ArchiveError) as caught:
        stubs_in_archive(path)
    assert f"{path}: not a TorchScript archive, or a damaged one: " in str(caught.value)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_a_directory_of_a_zip_file_has_a_limit(monkeypatch):
    monkeypatch.setattr(inspect, "_DIRECTORY_AT_MOST", 100_000)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(3000):
            archive.writestr(f"m/{number}", b"")
    with pytest.raises(ArchiveError, match="its directory has more than 100000 bytes"):
        stubs_in_archive(file)


def test_a_stub_under_many_names_is_listed_under_each():
    assert [found.path for found in stubs_in_archive(shared(50))] == ["first", *(f"a{number}" for number in range(50))]


@pytest.mark.parametrize(
    "program",
    [
        stub(FORWARD, name="__torch__.evil\n  worker 'trusted'\x1b[2J.Face"),
        stub(FORWARD, worker="\x1b]0;owned\x07\u202e"),
        stub("f(x: \x1b[2J\x07) -> int", scope="x"),
        b"c__torch__.\x1b[2J\x9b2J\nM\n)\x81}(" + text("a\x1b[2J") + b"c__torch__.m\nM\n)\x81ub",
    ],
)
def test_nothing_of_a_file_reaches_a_terminal_as_it_is(tmp_path, capsys, program):
    (tmp_path / "evil.pt").write_bytes(zipped(model([("a", program)])).getvalue())
    cli.main(["inspect", str(tmp_path / "evil.pt")])
    told = capsys.readouterr()
    lines = (told.out + told.err).splitlines()
    assert lines
    assert all(line.isprintable() for line in lines)
    assert not any(line.startswith("  worker 'trusted'") for line in lines)


def test_types_that_nest_without_end_are_refused(encoder):
    tuples = ["tuple q.T0(a: Tensor)"]
    tuples += [f"tuple q.T{n}(a: q.T{n - 1}, b: q.T{n - 1})" for n in range(1, 60)]
    text = "\n".join([*tuples, "forward(x: q.T59) -> Tensor"])
    with pytest.raises(ValueError, match="types that nest to more than"):
        parse_interface("__torch__.q.Deep", text)


def test_what_a_terminal_would_obey_is_shown(encoder):
    assert "\\x1b" in str(replace(stubs_in_archive(saved(encoder))[0], worker="\x1b[2J", name="\x9b2J"))
    assert "\x1b" not in str(replace(stubs_in_archive(saved(encoder))[0], path="\x1b[2J"))
