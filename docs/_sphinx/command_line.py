"""What each command's --help prints."""

from __future__ import annotations

import contextlib
import io
import os
import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from torchremote.tools.cli import main


def help_of(*command: str) -> str:
    os.environ["COLUMNS"] = "84"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*command, "--help"])
    return printed.getvalue()


def commands() -> list[str]:
    _, _, listed = help_of().partition("positional arguments:")
    return re.findall(r"^    (\w[\w-]*)", listed, flags=re.MULTILINE)


class CommandLine(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        shown: list[nodes.Node] = [nodes.literal_block(text=help_of(), language="text")]
        for command in commands():
            section = nodes.section(ids=[f"command-{command}"])
            section += nodes.title("", "", nodes.literal(text=command))
            section += nodes.literal_block(text=help_of(command), language="text")
            shown.append(section)
        return shown


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": False}
