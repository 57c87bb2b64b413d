"""Findings as text, JSON and pictures, and the README's table and picture: `python -m benchmarks.report`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import matplotlib

from .findings import Findings, Ratio

matplotlib.use("Agg")
from matplotlib import pyplot

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


def as_text(findings: Findings) -> str:
    lines = [f"\n{findings.question} ({findings.unit})"]
    for contender in findings.rounds:
        summary = findings.summary(contender)
        shown = f"{summary['median']:12.4g}  p99 {summary['p99']:10.4g}"
        lines.append(f"  {contender:44}{shown}  [{summary['low']:.4g} to {summary['high']:.4g}]")
    lines += [f"  {'ok    ' if ratio.met else 'MISSED'} {_sentence(ratio)}" for ratio in findings.ratios()]
    lines += [f"  left out: {name}: {why}" for name, why in findings.left_out.items()]
    return "\n".join(lines)


def _sentence(ratio: Ratio) -> str:
    target = ratio.target
    bound = f"{'at least' if target.at_least else 'at most'} {target.bound:g}"
    statistic = "" if target.statistic == "median" else f", {target.statistic}"
    return (
        f"{ratio.value:.3g} [{ratio.low:.3g} to {ratio.high:.3g}], {bound} times {target.to}{statistic} ({target.of})"
    )


def write(findings: Findings, path: Path, machine: dict[str, str]) -> None:
    """Writes `path`.json and `path`.png."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps({**findings.as_json(), "machine": machine}, indent=1) + "\n")
    if findings.rounds:
        _draw(findings, path.with_suffix(".png"), machine)


def _draw(findings: Findings, path: Path, machine: dict[str, str]) -> None:
    names = list(findings.rounds)
    figure, axes = pyplot.subplots(figsize=(8, 1.2 + 0.36 * len(names)), layout="constrained")
    values = [[value * findings.scale for values in findings.rounds[name] for value in values] for name in names]
    axes.boxplot(values, orientation="horizontal", whis=(1, 99), showfliers=False)
    axes.set_yticks(range(1, len(names) + 1), names)
    axes.invert_yaxis()
    if max(map(max, values)) > 20 * min(map(min, values)):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
    else:
        axes.set_xlim(left=0)
    axes.set_xlabel(f"{findings.unit} (box: quartiles, whiskers: 1% and 99%)")
    axes.set_title(f"{findings.question}\n{machine['cores']} cores, torch {machine['torch']}", fontsize=10)
    axes.grid(axis="x", which="both", alpha=0.3)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


# -- the README


def readme_table(results: dict[str, dict[str, Any]]) -> str:
    machine = next(iter(results.values()))["machine"]
    commits = ", ".join(dict.fromkeys(found["machine"]["commit"] for found in results.values()))
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, torch {machine['torch']}, CPython {machine['python']}, "
        f"commit {commits}, {machine['date']}. A ratio is the median over rounds, with its quartiles.",
        "",
        "| question | ratio to | measured | target | |",
        "|---|---|---|---|---|",
    ]
    for found in results.values():
        for number, ratio in enumerate(found["ratios"]):
            bound = f"{'≥' if ratio['at_least'] else '≤'} {ratio['bound']:g}"
            measured = f"{ratio['value']:.3g} ({ratio['low']:.3g} to {ratio['high']:.3g})"
            statistic = "" if ratio["statistic"] == "median" else f", {ratio['statistic']}"
            to = f"{ratio['of'].removeprefix('torchremote, ')} / {ratio['to']}{statistic}"
            question = found["question"] if number == 0 else ""
            verdict = "met" if ratio["met"] else f"missed: {ratio['why'] or 'see below'}"
            lines.append(f"| {question} | {to} | {measured} | {bound} | {verdict} |")
    return "\n".join(lines)


def main() -> None:
    from .__main__ import QUESTIONS, RESULTS

    paths = {name: RESULTS / f"{name}.json" for name in QUESTIONS}
    results = {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
    text = README.read_text()
    block = f"{BEGIN}\n![latency of a call](benchmarks/results/latency.png)\n\n{readme_table(results)}\n{END}"
    README.write_text(re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: block, text, flags=re.DOTALL))


if __name__ == "__main__":
    main()
