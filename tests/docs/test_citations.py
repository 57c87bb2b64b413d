"""What the source cites is there: files, found from the folder of who cites them upwards, and notes."""

import collections
import pathlib
import re

import pytest

PACKAGE = pathlib.Path(__file__).parents[2] / "torchremote"
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*") if path.suffix in (".py", ".cpp", ".h"))
TEXTS = {path: (PACKAGE / path).read_text() for path in FILES}

FILE = re.compile(r"(?<![\w/.\"'*<])((?:\w+/)*\w+\.(?:py|cpp|h))\b(?![\"'])")
NOTE = re.compile(r"(?:([\w/]+\.(?:py|cpp|h)), )?Note \[([^\]]+)\]")
TITLE = re.compile(r"^\s*(?:# |// )?Note \[([^\]]+)\]$", re.MULTILINE)

NAMES = {path.name for path in FILES}
TITLES = collections.defaultdict(set)
for path, text in TEXTS.items():
    for title in TITLE.findall(text):
        TITLES[title].add(path)


def found(cited, path):
    """The file that `path` means with `cited`."""
    return next((folder / cited for folder in path.parents if folder / cited in TEXTS), None)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_file_that_is_cited_is_another_one_and_there(path):
    cited = {name for name in FILE.findall(TEXTS[path]) if pathlib.Path(name).name in NAMES}
    assert sorted(name for name in cited if found(name, path) in (None, path)) == []


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_note_that_is_cited_stands_in_the_file_that_is_named(path):
    in_one_line = re.sub(r"\n\s*(?:#|//)?\s*", " ", TEXTS[path])
    cited = [(name, title) for name, title in NOTE.findall(in_one_line) if path not in TITLES[title] or name]
    assert [(name, title) for name, title in cited if found(name or ".", path) not in TITLES[title]] == []


def test_no_two_notes_have_one_title():
    assert len(TITLES) > 50
    assert {title: paths for title, paths in TITLES.items() if len(paths) != 1} == {}
