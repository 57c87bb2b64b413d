"""The tables of types, as `python -m torchremote types` prints them; the compiler itself says what is in them."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from torchremote.tools.type_tables import tables


class TypeTable(SphinxDirective):
    """`{type-table} You write | refused`: the table whose head begins so."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        for table in tables().split("\n\n"):
            if table.startswith(f"| {self.arguments[0]} |"):
                return self.parse_text_to_nodes(table)
        raise self.error(f"torchremote types prints no table that begins with {self.arguments[0]}")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("type-table", TypeTable)
    return {"parallel_read_safe": True}
