"""The benchmarks' results on a page: every number and picture comes from benchmarks/results/."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from benchmarks.kept import cells, read_results
from benchmarks.questions import RESULTS


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _of(ratio: dict[str, Any]) -> str:
    statistic = "" if ratio["statistic"] == "median" else f" ({ratio['statistic']})"
    return f"{ratio['of']} / {ratio['to']}{statistic}"


def machine_of(results: dict[str, dict[str, Any]]) -> str:
    machines = [result["machine"] for result in results.values()]

    def every(what: str) -> str:
        return ", ".join(dict.fromkeys(machine[what] for machine in machines))

    return (
        f"Measured on {every('processor')} with {every('cores')} cores, accelerator: {every('accelerator')}, "
        f"{every('system')}, torch {every('torch')}, CPython {every('python')}; {every('date')}, commit "
        f"{every('commit')}."
    )


def _targets(results: dict[str, dict[str, Any]]) -> Iterator[str]:
    yield "| question | ratio | measured | target | |"
    yield "|---|---|---|---|---|"
    for name, result in results.items():
        for number, ratio in enumerate(result["ratios"]):
            question = "" if number else f"[{result['question']}](#{_anchor(name)})"
            yield f"| {question} | {_of(ratio)} | {cells(ratio)} |"


def _anchor(name: str) -> str:
    return f"results-{name.replace('_', '-')}"


class Machine(SphinxDirective):
    """The machine of all results but those of accelerators, which have their own below them."""

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(
            machine_of({name: result for name, result in read_results().items() if not _on_accelerator(result)})
        )


def _on_accelerator(result: dict[str, Any]) -> bool:
    return bool(result["machine"]["accelerator"] != "none")


class Targets(SphinxDirective):
    """The ratios that have a target."""

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes("\n".join(_targets(read_results())))


class Results(SphinxDirective):
    """All questions, each with its picture and its table."""

    def run(self) -> list[nodes.Node]:
        return [self._section(name, result) for name, result in read_results().items()]

    def _section(self, name: str, result: dict[str, Any]) -> nodes.Node:
        self.env.note_dependency(str(RESULTS / f"{name}.json"))
        section = nodes.section(ids=[_anchor(name)], names=[_anchor(name)])
        section += nodes.title(text=result["question"])
        lines = [f"| {result['unit']} | median | quartiles of the rounds | p99 |", "|---|---|---|---|"]
        for contender, it in result["contenders"].items():
            spread = f"{_shown(it['low'])} to {_shown(it['high'])}"
            lines.append(f"| {contender} | {_shown(it['median'])} | {spread} | {_shown(it['p99'])} |")
        lines += [f"\nLeft out: {contender}: {why}" for contender, why in result["left_out"].items()]
        lines += [f"\n{note}" for note in result["notes"]]
        if _on_accelerator(result):
            lines.append(f"\n{machine_of({name: result})}")
        if (RESULTS / f"{name}.png").exists():
            lines.insert(0, f"![{result['question']}](../benchmarks/results/{name}.png)\n")
        section += self.parse_text_to_nodes("\n".join(lines))
        self.state.document.note_explicit_target(section)
        return section


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("machine", Machine)
    app.add_directive("targets", Targets)
    app.add_directive("results", Results)
    return {"parallel_read_safe": True}
