"""Findings as text and JSON, and the table of the README.

`python -m benchmarks.report` writes the README's rows and draws all pictures again, from the results that are kept.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

from . import pictures
from .findings import Findings, Ratio
from .kept import Results, cells, read_results
from .questions import RESULTS

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


# -- the table


def telling_table(results: Results) -> str:
    """Returns the README's table: the rows of TELLING that were measured."""
    rows = []
    for question, of, to, shown in TELLING:
        for ratio in results.get(question, {"ratios": []})["ratios"]:
            if (ratio["of"], ratio["to"], ratio["statistic"]) == (of, to, "median"):
                rows.append(f"| {shown} | {cells(ratio)} |")
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


def main() -> None:
    results = read_results()
    for question, found in results.items():
        if found["contenders"]:
            pictures.draw(question, found, RESULTS / f"{question}.png")
    block = f"{BEGIN}\n{telling_table(results)}\n{END}"
    text = README.read_text()
    README.write_text(re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: block, text, flags=re.DOTALL))


if __name__ == "__main__":
    main()
