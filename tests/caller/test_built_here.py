"""Classes that the owner cannot import: of `__main__`, of a notebook's cell, or from inside a function."""

import asyncio
import logging
import sys
import types

import pytest
import torch
import torch.distributed.rpc as rpc
from torch import Tensor, nn

import torchremote as tr
from torchremote.caller.creating import built_here
from torchremote.errors import CreationError, MismatchError

X = torch.ones(2, 3)


@tr.remote_scriptable
class Scaler:
    def forward(self, x: Tensor) -> Tensor: ...


@pytest.fixture
def cell(monkeypatch):
    """Runs text as a cell of a notebook would: what it defines is of `__main__`."""
    main = sys.modules["__main__"]
    before = set(vars(main))

    def run(text):
        exec(compile(text, "<cell>", "exec", dont_inherit=True), vars(main))
        return main

    yield run
    for name in set(vars(main)) - before:
        delattr(main, name)


CELL = """
import torch, torchremote
class Scaling(torch.nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = torch.nn.Parameter(torch.tensor(float(by)))
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.by + {plus}
"""


@pytest.fixture
def scripting_a_cell(monkeypatch):
    """TorchScript reads source; IPython keeps that of a cell, and so does this."""
    import linecache

    def keep(text):
        linecache.cache["<cell>"] = (len(text), None, text.splitlines(keepends=True), "<cell>")

    return keep


def test_a_class_of_a_cell(owner, cell, scripting_a_cell, caplog):
    built_here._said.clear()
    text = CELL.format(plus=0)
    scripting_a_cell(text)
    main = cell(text)
    first = tr.create(owner, Scaler, main.Scaling, args=(2,))
    assert torch.equal(first(X), X * 2)
    (said,) = [record for record in caplog.records if record.name == "torchremote"]
    assert said.levelno == logging.WARNING
    assert said.getMessage() == (
        "Scaler on owner: the worker cannot import Scaling, so it is built and scripted here, and sent"
    )
    changed = CELL.format(plus=1)
    scripting_a_cell(changed)
    main = cell(changed)
    second = tr.create(owner, Scaler, main.Scaling, args=(2,))
    assert torch.equal(second(X), X * 2 + 1)
    assert torch.equal(first(X), X * 2)
    assert len([record for record in caplog.records if record.name == "torchremote"]) == 1
    assert list(tr.at_owner(second).state_dict()) == ["by"]


def local_class():
    class Local(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 5

    return Local


def test_classes_and_functions_from_inside_functions(owner):
    assert torch.equal(tr.create(owner, Scaler, local_class())(X), X + 5)
    assert torch.equal(tr.create(owner, Scaler, lambda: local_class()())(X), X + 5)
    stubs = tr.create_many([owner] * 3, Scaler, local_class())
    assert all(torch.equal(stub(X), X + 5) for stub in stubs)


def test_many_classes_of_a_cell(owner, cell, scripting_a_cell):
    text = CELL.format(plus=0)
    scripting_a_cell(text)
    main = cell(text)
    stubs = tr.create_many([owner] * 3, Scaler, main.Scaling, args=[(n,) for n in range(3)])
    assert [stub(X)[0, 0].item() for stub in stubs] == [0.0, 1.0, 2.0]

    async def later():
        return await tr.create_async(owner, Scaler, main.Scaling, args=(7,))

    assert torch.equal(asyncio.run(later())(X), X * 7)


def test_arguments_that_the_owner_cannot_import(owner, cell, scripting_a_cell):
    text = CELL.format(plus=0) + "class Config:\n    by = 4\n"
    scripting_a_cell(text)
    main = cell(text)
    stub = tr.create(owner, Scaler, scaling_of, args=(main.Config(),))
    assert torch.equal(stub(X), X * 4)


def scaling_of(config):
    return Times(config.by)


class Times(nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return x * self.by


def test_with_examples_it_is_exported(owner, caplog):
    class Exported(nn.Module):
        def forward(self, x: Tensor, **options: object) -> Tensor:
            return x * sum(n for n in range(3))

    stub = tr.create(owner, Scaler, Exported, examples={"forward": (X,)})
    assert torch.equal(stub(torch.ones(5, 3)), torch.ones(5, 3) * 3)
    assert "built and exported here" in caplog.text


def test_what_goes_wrong_here_is_said(owner):
    class Raises(nn.Module):
        def __init__(self):
            raise ValueError("no such weights")

    class Lacks(nn.Module):
        def forward(self, y: Tensor) -> int:
            return 1

    with pytest.raises(CreationError, match=r"Scaler on owner: built here, since .*Raises or .*: .*no such weights"):
        tr.create(owner, Scaler, Raises)
    with pytest.raises(MismatchError, match="Scaler on owner: Scaler: .*Lacks does not implement it"):
        tr.create(owner, Scaler, Lacks)
    with pytest.raises(CreationError, match="module 1: .*no such weights"):
        tr.create_many([owner] * 2, Scaler, maker([local_class(), Raises]))


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_ctrl_c_while_it_is_built_is_raised(owner, error):
    class Interrupted(nn.Module):
        def __init__(self):
            super().__init__()
            raise error("as pressed")

    said = (error, "^as pressed$") if error is KeyboardInterrupt else (CreationError, "raised SystemExit: as pressed")
    with pytest.raises(said[0], match=said[1]):
        tr.create(owner, Scaler, Interrupted)
    with pytest.raises(said[0], match=said[1]):
        tr.create_many([owner] * 2, Scaler, Interrupted)


def maker(classes):
    return lambda: classes.pop(0)()


NEEDS = """
import torch
{first}
class {name}(torch.nn.Module):
    def __init__(self, fails: bool = False):
        super().__init__()
        assert not fails, "no such weights"
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 7
"""


@pytest.fixture
def in_a_file(owner, tmp_path, monkeypatch):
    """Writes a file with a class, which both workers find. Only this one finds `only_on_the_caller`."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "only_on_the_caller", types.ModuleType("only_on_the_caller"))
    rpc.rpc_sync(owner, add_to_path, (str(tmp_path),))

    def write(file, name, first):
        (tmp_path / f"{file}.py").write_text(NEEDS.format(first=first, name=name))
        return getattr(__import__(file), name)

    yield write
    rpc.rpc_sync(owner, drop_from_path, (str(tmp_path),))


def add_to_path(path):
    sys.path.insert(0, path)


def drop_from_path(path):
    sys.path.remove(path)


def test_what_the_owner_lacks_is_said(owner, in_a_file, caplog):
    needs = in_a_file("needs_more", "NeedsMore", "import only_on_the_caller")
    assert torch.equal(tr.create(owner, Scaler, needs)(X), X + 7)
    said = "the worker cannot import NeedsMore (No module named 'only_on_the_caller'), so it is built and scripted here"
    assert said in caplog.text
    with pytest.raises(CreationError, match=r"arguments \(No module named 'only_on_the_caller'\): .*no such weights"):
        tr.create(owner, Scaler, needs, args=(True,))


def test_a_file_that_breaks_on_the_owner(owner, in_a_file):
    first = "import sys\nif 'only_on_the_caller' not in sys.modules: raise RuntimeError('not on this machine')"
    breaks = in_a_file("breaks_there", "Breaks", first)
    with pytest.raises(CreationError) as raised:
        tr.create(owner, Scaler, breaks)
    told, more = str(raised.value).split("\n\n", 1)
    file = sys.modules["breaks_there"].__file__
    said = f"the worker could not import {file}: RuntimeError: not on this machine; mend it there"
    assert told == f"Scaler on owner: {said}"
    assert more.startswith("At:")


def test_named_ones(owner):
    stub = tr.create(owner, Scaler, local_class(), name="built", if_exists="replace")
    assert torch.equal(tr.connect(owner, Scaler, "built")(X), stub(X))
    tr.withdraw("built", owner)


TYPES = """
import enum, typing, torch, torchremote
class Pair(typing.NamedTuple):
    a: torch.Tensor
    b: int
class Kind(enum.Enum):
    ONE = 1
    TWO = 2
@torchremote.remote_scriptable
class Pairs:
    def forward(self, pair: Pair) -> Pair: ...
@torchremote.remote_scriptable
class Kinds:
    def forward(self, kind: Kind) -> int: ...
class PairsModule(torch.nn.Module):
    def forward(self, pair: Pair) -> Pair:
        return Pair(pair.a + 1, pair.b)
class KindsModule(torch.nn.Module):
    def forward(self, kind: Kind) -> int:
        return 1 if kind == Kind.ONE else 2
"""


def test_named_tuples_and_enums_of_a_cell(owner, cell, scripting_a_cell):
    scripting_a_cell(TYPES)
    main = cell(TYPES)
    pairs = tr.create(owner, main.Pairs, main.PairsModule)
    assert isinstance(pairs(main.Pair(X, 3)), main.Pair)
    assert torch.equal(pairs(main.Pair(X, 3)).a, X + 1)
    with pytest.raises(CreationError, match="owner cannot import KindsModule, and torch sends no .*Kind"):
        tr.create(owner, main.Kinds, main.KindsModule)
