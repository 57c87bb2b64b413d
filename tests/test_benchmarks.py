"""The benchmarks run, and what they find is compared as it should be. Nothing here depends on how fast anything is."""

import json
import pathlib
import subprocess
import sys

import pytest

from benchmarks import report
from benchmarks.findings import Findings, Target
from benchmarks.timing import interleave

ROOT = pathlib.Path(__file__).parent.parent


def findings(**ours):
    rounds = {"ours": [[2.0, 2.0, 2.0], [3.0, 3.0, 9.0]], "theirs": [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]}
    return Findings("Which?", "ms", 1e3, rounds, [Target("ours", "theirs", 1.8, **ours)], left_out={"it": "missing"})


def test_a_ratio_is_of_what_was_measured_in_one_round():
    (ratio,) = findings().ratios()
    assert (ratio.value, ratio.low, ratio.high) == (1.75, 1.625, 1.875)
    assert ratio.met
    assert not findings(at_least=True).ratios()[0].met
    assert findings(statistic="p99").ratios()[0].value > 3


def test_a_target_without_its_contenders_is_not_judged():
    found = findings()
    del found.rounds["theirs"]
    assert found.ratios() == []


def test_contenders_take_turns():
    order = []
    blocks = {name: lambda calls, name=name: order.append((name, calls)) or [0.0] * calls for name in "ab"}
    found = interleave(blocks, rounds=2, calls=3, warm_up=5)
    assert order == [("a", 5), ("b", 5), ("a", 3), ("b", 3), ("a", 3), ("b", 3)]
    assert found == {"a": [[0.0] * 3] * 2, "b": [[0.0] * 3] * 2}


def test_findings_are_written_and_shown(tmp_path):
    machine = {"processor": "P", "cores": "2", "torch": "1", "python": "3", "commit": "c", "date": "today"}
    report.write(findings(), tmp_path / "found", machine)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["contenders"]["ours"]["median"] == 2500
    assert (tmp_path / "found.png").stat().st_size > 1000
    assert "| Which? | ours / theirs | 1.75 (1.62 to 1.88) | ≤ 1.8 | met |" in report.readme_table({"it": found})
    assert "ok     1.75 [1.62 to 1.88], at most 1.8 times theirs (ours)" in report.as_text(findings())


@pytest.mark.parametrize("question", ["latency", "movement"])
def test_a_question_is_asked(question):
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks", "--quick", question]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode in (0, 1), done.stderr
    assert "torchremote" in done.stdout
    assert "target" in done.stdout


def test_the_readme_shows_what_was_found_last():
    shown = (ROOT / "README.md").read_text().partition(report.BEGIN)[2].partition(report.END)[0]
    results = {path.stem: json.loads(path.read_text()) for path in (ROOT / "benchmarks" / "results").glob("*.json")}
    assert results
    for found in results.values():
        for ratio in found["ratios"]:
            assert f"{ratio['value']:.3g} ({ratio['low']:.3g} to {ratio['high']:.3g})" in shown
