"""Reads the results that are kept, and writes their ratios, for the README and for docs."""

from __future__ import annotations

import json
from typing import Any

from .questions import QUESTIONS, RESULTS

Results = dict[str, dict[str, Any]]
"""By question, the JSON of its findings."""


def read_results() -> Results:
    """Reads the results that are kept, in the order of the questions."""
    paths = {name: RESULTS / f"{name}.json" for name in QUESTIONS}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def cells(ratio: dict[str, Any]) -> str:
    """Writes the last three cells of a ratio's row in Markdown: what was measured, the target, and the verdict."""
    measured = f"{ratio['value']:.3g} ({ratio['low']:.3g} to {ratio['high']:.3g})"
    return f"{measured} | {'≥' if ratio['at_least'] else '≤'} {ratio['bound']:g} | {ratio['verdict']}"
