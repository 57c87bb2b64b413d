"""The table of errors: every class of torchremote.errors, with its built-in exception and what it says of itself."""

from __future__ import annotations

import builtins
import inspect
from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from torchremote import errors


def rows() -> Iterator[str]:
    yield "| error | raised | is also |"
    yield "|---|---|---|"
    for name, found in vars(errors).items():
        if inspect.isclass(found) and issubclass(found, errors.TorchRemoteError):
            also = [base.__name__ for base in found.__bases__ if base.__module__ == "builtins"]
            also += [base.__name__ for base in found.__bases__ if hasattr(errors, base.__name__)]
            also = [base for base in also if base not in ("TorchRemoteError", "Exception")]
            assert all(hasattr(builtins, base) or hasattr(errors, base) for base in also)
            said = " ".join((found.__doc__ or "").split()).removeprefix("Raised ")
            yield f"| {{py:exc}}`{name} <torchremote.errors.{name}>` | {said} | {', '.join(also)} |"


class Errors(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes("\n".join(rows()))


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("errors", Errors)
    return {"parallel_read_safe": True}
