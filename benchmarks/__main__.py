"""`python -m benchmarks [--quick] [question ...]`: asks the questions, prints what was found, fails for a clear miss.

A target is met or missed where the interval of the true ratio lies on one side of it, and is unsure where the interval
contains it; an unsure one does not fail. With --quick, questions whose targets are missed or unsure are asked again, in
new processes, in turns, while there is time.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from torchremote.errors import NativeError

from . import report
from .findings import OURS, Findings
from .group import NoAccelerator, in_group
from .machine import machine
from .questions import QUESTIONS, RESULTS

IN_ALL, FOR_ONE = 210.0, 60.0  # seconds, for --quick: of all questions, of one of them

Ask = Callable[[], Findings]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("questions", nargs="*", metavar="question", help=f"of {', '.join(QUESTIONS)}; all, by default")
    parser.add_argument("--quick", action="store_true", help="a few minutes, and nothing is written")
    parser.add_argument(
        "--seconds", type=float, default=IN_ALL, help="with --quick: start nothing again after these (default: 210)"
    )
    parser.add_argument("--into", type=Path, default=RESULTS, help="the folder for results (default: %(default)s)")
    asked = parser.parse_args()
    unknown = set(asked.questions) - set(QUESTIONS)
    if unknown:
        parser.error(f"no such question: {', '.join(sorted(unknown))}")
    here = machine()  # before results are written, which the commit would be called dirty for
    questions = asked.questions or QUESTIONS
    asks: dict[str, Ask] = {question: asking(question, asked.quick) for question in questions}
    every = ask_again_while_unsure(asks, asked.seconds, FOR_ONE) if asked.quick else ask_once(asks, asked.into, here)
    for findings in every:
        print(report.as_text(findings))
    return judge(every)


def asking(question: str, quick: bool) -> Ask:
    def ask() -> Findings:
        start = time.monotonic()
        found = measure(question, quick)
        print(f"{question}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
        return found

    return ask


def measure(question: str, quick: bool) -> Findings:
    """Asks a question. If it begins with "native_", that is the question of the rest, with the native part.

    The `measure` of its file runs in a group, made with the file's GROUP; by itself where GROUP is None.
    """
    native = question.startswith("native_")
    of = importlib.import_module(f"benchmarks.{question.removeprefix('native_')}")
    group = getattr(of, "GROUP", {})
    try:
        found: Findings = (
            of.measure(quick) if group is None else in_group(of.measure, quick, **{"native": native, **group})
        )
    except (NativeError, NoAccelerator) as error:
        return Findings(question, "", 1, {}, left_out={OURS: str(error)})
    if native:
        found.question += ", with the native part"
    return found


def ask_once(asks: Mapping[str, Ask], into: Path, here: dict[str, str]) -> list[Findings]:
    """Asks each question once, and writes each answer when it is there."""
    every = []
    for question, ask in asks.items():
        every.append(ask())
        if every[-1].rounds:
            report.write(every[-1], into / question, here)
    return every


def ask_again_while_unsure(
    asks: Mapping[str, Ask], in_all: float, for_one: float, clock: Callable[[], float] = time.monotonic
) -> list[Findings]:
    """Asks each question, and again, one after the other, those that are not decided, as long as time allows.

    Args:
        in_all: seconds after which none is asked again.
        for_one: seconds that one question may take, all sittings together.
    """
    begin = clock()
    found: dict[str, Findings] = {}
    took = dict.fromkeys(asks, 0.0)

    def ask(question: str) -> None:
        start = clock()
        sitting = asks[question]()
        took[question] += clock() - start
        if question in found:
            found[question].add(sitting)
        else:
            found[question] = sitting

    for question in asks:
        ask(question)
    while True:
        left = in_all - (clock() - begin)
        fits = []
        for question, findings in found.items():
            once_more = took[question] / len(findings.sittings)
            if not is_decided(findings) and once_more <= left and took[question] + once_more <= for_one:
                fits.append(question)
        if not fits:
            return list(found.values())
        # Misses that were seen once come first.
        ask(min(fits, key=lambda question: (len(found[question].sittings), not missed(found[question]))))


def missed(findings: Findings) -> bool:
    return any(ratio.verdict == "missed" for ratio in findings.ratios())


def is_decided(findings: Findings) -> bool:
    """Says whether no other sitting is needed: all targets are met, or missed in two sittings at least."""
    verdicts = {ratio.verdict for ratio in findings.ratios()}
    return verdicts <= {"met"} or (verdicts <= {"met", "missed"} and len(findings.sittings) > 1)


def judge(every: Iterable[Findings]) -> int:
    """Says how many targets are clearly missed, and how many nobody can tell; returns 1 for a miss."""
    verdicts = [ratio.verdict for findings in every for ratio in findings.ratios()]
    count = {verdict: verdicts.count(verdict) for verdict in ("met", "missed", "unsure")}
    print("\ntargets: " + ", ".join(f"{number} {verdict}" for verdict, number in count.items()))
    return 1 if count["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
