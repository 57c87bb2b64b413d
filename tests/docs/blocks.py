"""The code blocks of README.md and docs/*.md, and where each runs.

A comment in the line before a block says so; without one, a Python block runs on the worker "trainer":

    <!-- on ps -->           on the worker "ps"
    <!-- alone -->           in a process of its own, with the page's other blocks of that kind
    <!-- file: parts.py -->  not run, but a file that the other blocks find
    <!-- run -->             a shell command, with the page's files beside it
    <!-- not run: why -->    not run
"""

import pathlib
import re
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parent.parent.parent
PAGES = {path.stem: path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
KINDS = ("on trainer", "on ps", "alone", "file", "run", "not run")


class Block(NamedTuple):
    kind: str
    said: str  # after the colon: a file's name, or why it is not run
    language: str
    line: int  # of the page, counted from 1: where its text begins
    text: str


def blocks_of(page):
    """The blocks of a page that say something to do: Python, and marked shell commands."""
    found, fence, mark = [], None, ""
    text: list[str] = []
    for number, line in enumerate(PAGES[page].read_text().splitlines(), 1):
        if fence is not None:
            if line == "```":
                block = Block(*fence, "\n".join(text) + "\n")
                if block.language == "python" or block.kind == "run":
                    found.append(block)
                fence = None
            else:
                text.append(line)
        elif line.startswith("```"):
            kind, _, said = (mark or "on trainer").partition(": ")
            assert kind in KINDS, f"{PAGES[page]}:{number - 1}: {mark!r}, which is none of {KINDS}"
            assert kind != "not run" or said, f"{PAGES[page]}:{number - 1}: say why it is not run"
            fence, text = (kind, said, line[3:], number + 1), []
        marked = re.fullmatch(r"<!-- (.*) -->", line)
        mark = marked[1] if marked else ""
    assert fence is None, f"{PAGES[page]}: a block does not end"
    return found


class Command(NamedTuple):
    text: str
    expected: str  # what it prints; "..." stands for anything
    line: int


def session_of(page):
    """The commands of a page's blocks of the language `console`, and what they print."""
    commands, inside = [], False
    for number, line in enumerate(PAGES[page].read_text().splitlines(), 1):
        if line.startswith("```"):
            inside = line == "```console"
        elif inside and line.startswith("$ "):
            commands.append(Command(line[2:], "", number))
        elif inside:
            commands[-1] = commands[-1]._replace(expected=f"{commands[-1].expected}{line}\n")
    return commands


def write_files(page, folder):
    """Writes what a page's blocks find beside them: the files of the page, and those of the first call."""
    for shared in ("first_call", page):
        for block in blocks_of(shared):
            if block.kind == "file":
                (folder / block.said).write_text(block.text)


def write_source(page, folder):
    """Writes a page's code for whoever reads source, as TorchScript and tracebacks do: every line in its place."""
    lines = [""] * len(PAGES[page].read_text().splitlines())
    for block in blocks_of(page):
        lines[block.line - 1 : block.line - 1 + block.text.count("\n")] = block.text.splitlines()
    path = folder / f"{page}_md.py"
    path.write_text("\n".join(lines) + "\n")
    return path
