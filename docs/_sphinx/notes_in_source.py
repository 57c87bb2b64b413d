"""The notes of the source, on a page: each is written once, beside the code that it is about.

A note is a line `Note [Title]` in a docstring or a comment, and the indented lines below it. The directive `notes`
shows all that are under the paths that it is given, which are relative to torchremote/, a section each. A note that
no page shows is a warning, and so is a path that has none.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

PACKAGE = Path(__file__).parent.parent.parent / "torchremote"
_TITLE = re.compile(r"^(?P<comment># ?)?(?P<indent> *)Note \[(?P<title>[^\]]+)\]$")
_log = logging.getLogger(__name__)


class Note(NamedTuple):
    title: str
    path: str  # of the file, relative to the package
    text: str  # Markdown

    @property
    def anchor(self) -> str:
        return "note-" + re.sub(r"\W+", "-", self.title.lower()).strip("-")


def notes_in(path: Path) -> Iterator[Note]:
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines):
        if found := _TITLE.match(line):
            comment, indent = found["comment"] or "", found["indent"] + "    "
            body = []
            for below in lines[number + 1 :]:
                text = below.removeprefix(comment.rstrip()).removeprefix(" ") if comment else below
                if comment and not below.startswith("#"):
                    break
                if text.strip() and not text.startswith(indent):
                    break
                body.append(text)
            yield Note(found["title"], str(path.relative_to(PACKAGE)), _as_markdown(textwrap.dedent("\n".join(body))))


def _as_markdown(text: str) -> str:
    text = re.sub(r"::$", ":", text.strip(), flags=re.MULTILINE)
    return re.sub(r"(?<!\n)\n(?=\* )", "\n\n", text)


def all_notes() -> list[Note]:
    return [note for path in sorted(PACKAGE.rglob("*.py")) for note in notes_in(path)]


class Notes(SphinxDirective):
    """`{notes} jit/lower _torch`: all notes of these folders and files."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        every = all_notes()
        anchors = {note.title: note.anchor for note in every}
        sections: list[nodes.Node] = []
        for wanted in self.arguments[0].split():
            found = [note for note in every if note.path == wanted or note.path.startswith(f"{wanted}/")]
            if not found:
                _log.warning("no note in torchremote/%s", wanted, location=self.get_location())
            sections += [self._section(note, anchors) for note in found]
        return sections

    def _section(self, note: Note, anchors: dict[str, str]) -> nodes.Node:
        _shown(self.env).add(note.title)
        self.env.note_dependency(str(PACKAGE / note.path))
        section = nodes.section(ids=[note.anchor], names=[note.anchor])
        section += nodes.title(text=note.title)

        def link(found: re.Match[str]) -> str:
            title = found["title"]
            return f"[{title}](#{anchors[title]})" if title in anchors else title

        text = re.sub(r"Note \[(?P<title>[^\]]+)\]", link, note.text)
        section += self.parse_text_to_nodes(f"{text}\n\n*In* `torchremote/{note.path}`.")
        self.state.document.note_explicit_target(section)
        return section


def _shown(env: Any) -> set[str]:
    if not hasattr(env, "notes_shown"):
        env.notes_shown = set()
    shown: set[str] = env.notes_shown
    return shown


def _check(app: Sphinx, env: Any) -> None:
    for note in all_notes():
        if note.title not in _shown(env):
            _log.warning("torchremote/%s: Note [%s] is on no page", note.path, note.title)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("notes", Notes)
    app.connect("env-check-consistency", _check)
    return {"parallel_read_safe": False}
