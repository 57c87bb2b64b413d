"""A few seconds of `make chaos`, with fixed seeds, so that it does not rot. What it finds is found by its long runs."""

import os

import pytest

from .chaos.rounds import run_round


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["calm", "kills"])
def test_a_short_round(kind):
    outcome = run_round(1, seconds=6, kind=kind)
    assert outcome.faults == [], outcome.output
    assert sum(sum(report["operations"].values()) for report in outcome.reports.values()) > 20
    assert outcome.events["killed owner"] + outcome.events["killed caller"] + outcome.events["killed third"] == (
        outcome.settings.kills
    )
    assert not any(os.path.exists(f"/proc/{pid}") for pid in outcome.processes)
