"""Links in docstrings: our docstrings name things in single backticks, and those that have a page here become links."""

from __future__ import annotations

import inspect
import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

import torchremote
from torchremote import errors


def _links() -> dict[str, str]:
    links = {name: f":py:obj:`~torchremote.{name}`" for name in torchremote.__all__ if not name.startswith("_")}
    for name, found in vars(errors).items():
        if inspect.isclass(found) and issubclass(found, errors.TorchRemoteError):
            links[name] = f":py:exc:`~torchremote.errors.{name}`"
    return links


_LINKS = _links()
_RAISED = re.compile(r"^(\s+)([A-Z]\w+(?:, [A-Z]\w+)*): ")


def _link(app: Sphinx, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    raising = False
    for number, line in enumerate(lines):
        if line.strip():
            indent = len(line) - len(line.lstrip())
            raising = line.strip() == "Raises:" or (raising and indent > 0)
        if raising and (raised := _RAISED.match(line)):
            rest = line[raised.end() :]
            names = ", ".join(f"~torchremote.errors.{one}" if one in _LINKS else one for one in raised[2].split(", "))
            line = f"{raised[1]}{names}: {rest}"
        lines[number] = re.sub(r"(?<![`:])`([A-Za-z_]\w*)(?:\(\))?`(?!`)", lambda it: _LINKS.get(it[1], it[0]), line)


def _forget_overloads(app: Sphinx) -> None:
    """Has each function shown with one signature: overloads differ in types that are for type checkers alone."""
    for name in torchremote.__all__:
        module = getattr(getattr(torchremote, name), "__module__", None)
        if module and module.startswith("torchremote."):
            analyzer = ModuleAnalyzer.for_module(module)  # cached, so autodoc gets the same one
            analyzer.analyze()
            analyzer.overloads.clear()


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", _forget_overloads)
    app.connect("autodoc-process-docstring", _link, priority=400)  # before napoleon
    return {"parallel_read_safe": True}
