"""The benchmarks run, and what they find is compared as it should be. Nothing here depends on how fast anything is."""

import ast
import importlib
import inspect
import json
import pathlib
import random
import subprocess
import sys

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import against, group, kept, pictures, questions, report, turns
from benchmarks.findings import Findings, Target, interval
from benchmarks.timing import in_flight, interleave
from torchremote.errors import NativeError

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = kept.read_results()


def findings(**ours):
    rounds = {"ours": [[2.0, 2.0, 2.0], [3.0, 3.0, 9.0]], "theirs": [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]}
    return Findings("Which?", "ms", 1e3, rounds, [Target("ours", "theirs", 1.8, **ours)], left_out={"it": "missing"})


def sitting(ratio, bound, rounds=9, at_least=False, seed=0):
    """Made-up rounds, in which ours takes about `ratio` times what theirs takes, give or take 2 percent."""
    draw = random.Random(seed)
    ours = [[ratio * draw.uniform(0.98, 1.02)] for _ in range(rounds)]
    target = Target("ours", "theirs", bound, at_least)
    return Findings("Which?", "ms", 1e3, {"ours": ours, "theirs": [[1.0]] * rounds}, [target])


def test_a_ratio_is_of_what_was_measured_in_one_round():
    (ratio,) = findings().ratios()
    assert (ratio.value, ratio.low, ratio.high) == (1.75, 1.625, 1.875)
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


def test_calls_in_flight_are_made_together():
    made = []

    class Stub:
        def forward_async(self, x):
            made.append(x)
            done = torch.futures.Future()
            done.set_result(x)
            return done

    block = in_flight(Stub(), torch.ones(1), depth=5, every=20)
    assert len(block(60)) == 3
    assert len(made) == 15
    assert len(block(1)) == 1


# -- judging


@pytest.mark.parametrize(
    ("ratio", "at_least", "verdict", "status"),
    [
        (1.20, False, "missed", 1),
        (1.00, False, "met", 0),
        (1.08, False, "unsure", 0),
        (1.20, True, "met", 0),
        (1.00, True, "missed", 1),
        (1.08, True, "unsure", 0),
    ],
)
def test_only_a_clear_miss_fails(ratio, at_least, verdict, status, capsys):
    found = sitting(ratio, bound=1.08, at_least=at_least)
    assert [ratio.verdict for ratio in found.ratios()] == [verdict]
    assert command.judge([found]) == status
    assert f"1 {verdict}" in capsys.readouterr().out
    assert f"\n  {verdict} " in report.as_text(found)


def test_few_rounds_judge_nothing():
    assert sitting(2.0, bound=1.0, rounds=5).ratios()[0].verdict == "unsure"


def test_an_interval_has_the_true_median_in_it_nearly_always():
    draw = random.Random(1)
    inside = 0
    for _ in range(200):
        low, high = interval([draw.lognormvariate(0, 0.1) for _ in range(9)])
        inside += low <= 1.0 <= high
    assert inside >= 190


def test_sittings_that_differ_are_not_sure():
    # each of them is sure for itself: 1.02 and 1.10 times in two runs, with a target of 1.08
    one, other = sitting(1.02, 1.08, rounds=50), sitting(1.10, 1.08, rounds=50, seed=1)
    assert {one.ratios()[0].verdict, other.ratios()[0].verdict} == {"met", "missed"}
    one.add(other)
    assert one.ratios()[0].verdict == "unsure"


class Clock:
    """Goes on by ten seconds for each question that is asked."""

    def __init__(self, ratios):
        self.now, self.asked, self.ratios = 0.0, [], ratios

    def asks(self):
        return {question: lambda question=question: self.ask(question) for question in self.ratios}

    def ask(self, question):
        self.now += 10.0
        self.asked.append(question)
        return sitting(self.ratios[question], bound=1.08, seed=len(self.asked))


def test_what_is_unsure_or_missed_is_asked_again_while_there_is_time():
    clock = Clock({"met": 1.0, "missed": 1.2, "unsure": 1.08})
    found = command.ask_again_while_unsure(clock.asks(), in_all=100.0, for_one=60.0, clock=lambda: clock.now)
    assert clock.asked[:5] == ["met", "missed", "unsure", "missed", "unsure"]
    assert clock.asked.count("met") == 1
    assert clock.asked.count("missed") == 2
    assert clock.asked.count("unsure") <= 6
    assert clock.now <= 100.0
    assert [len(findings.sittings) for findings in found] == [clock.asked.count(name) for name in clock.ratios]


def test_nothing_is_asked_again_once_time_is_up():
    clock = Clock({"missed": 1.2, "unsure": 1.08})
    command.ask_again_while_unsure(clock.asks(), in_all=25.0, for_one=60.0, clock=lambda: clock.now)
    assert clock.asked == ["missed", "unsure"]


# -- reports


def test_findings_are_written_and_shown(tmp_path):
    machine = {"processor": "P", "cores": "2", "accelerator": "none", "torch": "1", "python": "3"}
    machine |= {"commit": "c", "date": "today"}
    report.write(findings(), tmp_path / "found", machine)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["contenders"]["ours"]["median"] == 2500
    assert (tmp_path / "found.png").stat().st_size > 1000
    assert report.heading({"it": found}).startswith("P, 2 cores, torch 1, CPython 3, commit c, today.")
    assert kept.cells(found["ratios"][0]) == "1.75 (1.62 to 1.88) | ≤ 1.8 | unsure"
    assert "unsure 1.75, too few rounds; at most 1.8 times theirs (ours)" in report.as_text(findings())


@pytest.mark.parametrize("question", RESULTS)
def test_results_that_are_kept_can_be_drawn(question, tmp_path):
    pictures.draw(question, RESULTS[question], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000


@pytest.mark.parametrize(("value", "shown"), [(0, "0"), (0.00411, "0.00411"), (1.2, "1.2"), (48035.7, "48,036")])
def test_numbers_are_plain(value, shown):
    assert pictures.plain(value) == shown


def test_the_readme_shows_what_was_found_last():
    shown = (ROOT / "README.md").read_text().partition(report.BEGIN)[2].partition(report.END)[0]
    rows = report.telling_table(RESULTS).splitlines()[4:]
    assert len(rows) == 4
    for row in rows:
        assert row.split(" | ")[1] in shown


def test_every_ratio_that_is_kept_can_be_written():
    for found in RESULTS.values():
        for ratio in found["ratios"]:
            assert kept.cells(ratio).endswith((" | met", " | missed", " | unsure"))


def test_a_question_is_a_file_and_has_its_results():
    for question in questions.QUESTIONS:
        assert (ROOT / "benchmarks" / f"{question.removeprefix('native_')}.py").exists()
    assert set(RESULTS) <= set(questions.QUESTIONS)
    assert {path.stem for path in questions.RESULTS.glob("*.json")} == set(RESULTS)


def test_imports_run_one_way():
    needs = {}
    for path in (ROOT / "benchmarks").glob("*.py"):
        needs[path.stem] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                needs[path.stem] |= {node.module} if node.module else {name.name for name in node.names}
    while needs:
        leaves = {name for name, wanted in needs.items() if not wanted & set(needs)}
        assert leaves, f"a circle among {sorted(needs)}"
        needs = {name: wanted for name, wanted in needs.items() if name not in leaves}


# -- against another checkout


def test_a_checkout_is_compared_with_another():
    rounds = {"old": [1e-3, 2e-3, 4e-3], "new": [0.5e-3, 1e-3, 2e-3]}
    head, row = against.as_table({"call": rounds}, {}).splitlines()
    assert head.split() == ["old", "new", "new", "/", "old", "(quartiles)", "[surely]"]
    assert row.split() == ["one", "call,", "us", "2000", "1000", "0.500", "(0.500", "to", "0.500)", "[few", "rounds]"]
    assert against.as_table({"call": {name: times * 3 for name, times in rounds.items()}}, {}).endswith(
        "[0.500 to 0.500]"
    )


def test_checkouts_take_turns():
    command = [
        sys.executable,
        "-m",
        "benchmarks.against",
        str(ROOT),
        "--sittings",
        "1",
        "--rounds",
        "2",
        "--fresh",
        "0",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert "one call, us" in done.stdout


def test_what_is_no_checkout_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="not a checkout of torchremote"):
        turns.Pair(tmp_path)


# -- runs


@pytest.mark.parametrize("question", questions.QUESTIONS)
def test_a_question_is_asked_in_the_group_of_its_file(question, monkeypatch):
    asked = []

    def in_group(measure, quick, **options):
        asked.append(inspect.signature(group.in_group).bind(measure, quick, **options).arguments)
        raise NativeError("no compiler")

    monkeypatch.setattr(command, "in_group", in_group)
    of = importlib.import_module(f"benchmarks.{question.removeprefix('native_')}")
    monkeypatch.setattr(of, "measure", lambda quick: Findings("By itself", "us", 1e6, {}))
    found = command.measure(question, True)
    if getattr(of, "GROUP", {}) is None:
        assert (found.question, asked) == ("By itself", [])
    else:
        assert found.left_out == {"torchremote": "no compiler"}
        assert asked[0]["measure"] is of.measure
        assert asked[0]["native"] == (question.startswith("native_") or question in ("native", "compiled"))


def test_what_needs_an_accelerator_says_so(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert command.measure("movement", True).left_out == {"torchremote": "no accelerator on this machine"}


@pytest.mark.parametrize("question", ["latency", "movement"])
def test_a_question_is_asked(question):
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks", "--quick", "--seconds", "0", question]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode in (0, 1), done.stderr
    assert "torchremote" in done.stdout
    assert "targets: " in done.stdout
