"""Findings as text and JSON, and the tables of the README and of docs.

`python -m benchmarks.report` writes the README's rows and draws all pictures again, from the results that are kept;
`--table` prints the full table instead.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from pathlib import Path
from typing import Any

from . import pictures
from .findings import Findings, Ratio
from .questions import QUESTIONS, RESULTS

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"

# The rows of the README: question, contender, what it is compared with, and what the row is called.
TELLING = (
    ("latency", "torchremote", "torch RemoteModule, scripted", "One call, to torch's scripted RemoteModule"),
    (
        "exported",
        "torchremote, exported",
        "torch RemoteModule, Python",
        "An exported transformer block, to the eager one behind torch's RemoteModule",
    ),
    (
        "exported",
        "torchremote, exported, owner busy",
        "torch RemoteModule, Python, owner busy",
        "The same block while the owner's Python is busy",
    ),
    (
        "beside_torchrl",
        "torchremote, gathered: 64 in flight",
        "TorchRL, SharedMemoryTransport: 64 in flight",
        "Calls a second, 64 in flight and gathered, to TorchRL's SharedMemoryTransport",
    ),
)

Results = dict[str, dict[str, Any]]
"""By question, the JSON of its findings."""


def as_text(findings: Findings) -> str:
    lines = [f"\n{findings.question} ({findings.unit})"]
    for contender in findings.rounds:
        summary = findings.summary(contender)
        shown = f"{summary['median']:12.4g}  p99 {summary['p99']:10.4g}"
        lines.append(f"  {contender:44}{shown}  [{summary['low']:.4g} to {summary['high']:.4g}]")
    lines += [f"  {ratio.verdict:7}{_sentence(ratio)}" for ratio in findings.ratios()]
    lines += [f"  left out: {name}: {why}" for name, why in findings.left_out.items()]
    return "\n".join(lines)


def _sentence(ratio: Ratio) -> str:
    target = ratio.target
    bound = f"{'at least' if target.at_least else 'at most'} {target.bound:g}"
    statistic = "" if target.statistic == "median" else f", {target.statistic}"
    surely = f"surely {ratio.least:.3g} to {ratio.most:.3g}" if math.isfinite(ratio.least) else "too few rounds"
    return f"{ratio.value:.3g}, {surely}; {bound} times {target.to}{statistic} ({target.of})"


def write(findings: Findings, path: Path, machine: dict[str, str]) -> None:
    """Writes `path`.json and `path`.png."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {**findings.as_json(), "machine": machine}
    path.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    if findings.rounds:
        pictures.draw(path.name, found, path.with_suffix(".png"))


# -- tables


def read_results(folder: Path = RESULTS) -> Results:
    """Reads the results that are kept, in the order of the questions."""
    paths = {name: folder / f"{name}.json" for name in QUESTIONS}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def full_table(results: Results | None = None) -> str:
    """Returns a table of every ratio, in Markdown, below a line on the machine.

    Args:
        results: by question; those that are kept in benchmarks/results by default.
    """
    results = read_results() if results is None else results
    lines = [heading(results), "", "| question | ratio to | measured | target | |", "|---|---|---|---|---|"]
    for found in results.values():
        for number, ratio in enumerate(found["ratios"]):
            statistic = "" if ratio["statistic"] == "median" else f", {ratio['statistic']}"
            to = f"{ratio['of'].removeprefix('torchremote, ')} / {ratio['to']}{statistic}"
            question = found["question"] if number == 0 else ""
            lines.append(f"| {question} | {to} | {_measured(ratio)} | {_bound(ratio)} | {_verdict(ratio)} |")
    return "\n".join(lines)


def telling_table(results: Results) -> str:
    """Returns the README's table: the rows of TELLING that were measured."""
    rows = []
    for question, of, to, shown in TELLING:
        for ratio in results.get(question, {"ratios": []})["ratios"]:
            if (ratio["of"], ratio["to"], ratio["statistic"]) == (of, to, "median"):
                rows.append(f"| {shown} | {_measured(ratio)} | {_bound(ratio)} | {_verdict(ratio)} |")
    told = {name: results[name] for name in dict.fromkeys(row[0] for row in TELLING) if name in results}
    return "\n".join([heading(told), "", "| | ratio | target | |", "|---|---|---|---|", *rows])


def heading(results: Results) -> str:
    """Names the machine, the versions, the commits and the dates of results."""
    machines = [found["machine"] for found in results.values()]
    if not machines:
        return "Nothing was measured."
    said = {name: ", ".join(dict.fromkeys(machine[name] for machine in machines)) for name in machines[0]}
    return (
        f"{said['processor']}, {said['cores']} cores, torch {said['torch']}, CPython {said['python']}, "
        f"commit {said['commit']}, {said['date']}. A ratio is the median over rounds, with its quartiles."
    )


def _measured(ratio: dict[str, Any]) -> str:
    return f"{ratio['value']:.3g} ({ratio['low']:.3g} to {ratio['high']:.3g})"


def _bound(ratio: dict[str, Any]) -> str:
    return f"{'≥' if ratio['at_least'] else '≤'} {ratio['bound']:g}"


def _verdict(ratio: dict[str, Any]) -> str:
    # Results of before there were intervals are met or missed by their median.
    verdict = ratio.get("verdict", "met" if ratio["met"] else "missed")
    return f"{verdict}: {ratio['why']}" if verdict != "met" and ratio["why"] else str(verdict)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--table", action="store_true", help="print the full table, and write nothing")
    results = read_results()
    if parser.parse_args().table:
        print(full_table(results))
        return
    for question, found in results.items():
        if found["contenders"]:
            pictures.draw(question, found, RESULTS / f"{question}.png")
    block = f"{BEGIN}\n{telling_table(results)}\n{END}"
    text = README.read_text()
    README.write_text(re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: block, text, flags=re.DOTALL))


if __name__ == "__main__":
    main()
