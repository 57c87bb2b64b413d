"""Imports run one way between the layers, and between the rooms of some; the compiler's pure passes need no torch."""

import ast
import functools
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "torchremote"
# Each layer may import from those before it. What is in none of the folders stands at the top, and is the first.
LAYERS = ("top _torch native", "jit", "link", "owner", "caller", "archive dropin group", "testing tools", "public")
# The same, inside the compiler and each side of a call. What is in none of the rooms, as the driver, is the last.
ROOMS = {
    "jit": ("read", "runtime", "lower", "script", "export", "driver"),
    "owner": ("checks", "lives", "running", "beside them"),
    "caller": ("messages", "calls", "stubs", "creating", "replicas", "finding", "beside them"),
}
NEED_NO_TORCH = "read/literals.py read/model.py read/parse.py read/types.py lower".split()
PUBLIC = {"__init__.py", "__main__.py"}

FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def layer_of(path):
    room = path.parts[0] if len(path.parts) > 1 else "public" if path.name in PUBLIC else "top"
    return next(number for number, rooms in enumerate(LAYERS) if room in rooms.split())


def room_of(path):
    """The number of the room, within its layer, that a file belongs to."""
    rooms = ROOMS[path.parts[0]]
    return rooms.index(path.parts[1]) if len(path.parts) > 2 else len(rooms) - 1


def imports(path):
    """Returns what a file imports, anywhere in it: files of ours, and the first names of other packages."""
    package = list(path.parts[:-1])
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] + (node.module.split(".") if node.module else [])
            for alias in node.names:
                yield file_of([*base, alias.name]) or file_of(base)


def file_of(module):
    path = pathlib.Path(*module)
    return next((found for found in (path.with_suffix(".py"), path / "__init__.py") if found in FILES), None)


@functools.cache
def ours(path):
    return [found for found in imports(path) if isinstance(found, pathlib.Path)]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_run_one_way_between_the_layers(path):
    assert [found for found in ours(path) if layer_of(found) > layer_of(path)] == []


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[0] in ROOMS], ids=str)
def test_imports_run_one_way_between_the_rooms(path):
    within = [found for found in ours(path) if found.parts[0] == path.parts[0]]
    assert [found for found in within if room_of(found) > room_of(path)] == []


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_two_files_import_each_other(path):
    assert [found for found in ours(path) if path in ours(found)] == []


def test_pure_passes_need_no_torch():
    pure = [path for path in FILES if str(path.relative_to(path.parts[0])).startswith(tuple(NEED_NO_TORCH))]
    assert len(pure) > 12
    assert [path for path in pure if {"torch", pathlib.Path("_torch/__init__.py")} & set(imports(path))] == []


def test_every_folder_is_a_layer():
    folders = {path.parts[0] for path in FILES if len(path.parts) > 1}
    assert folders == set(" ".join(LAYERS).split()) - {"top", "public"}
