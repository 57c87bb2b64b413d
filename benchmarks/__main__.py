"""`python -m benchmarks [--quick] [question ...]`: asks the questions, prints one table, exits non-zero for a miss."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

from . import report
from .findings import Findings
from .machine import machine

QUESTIONS = (
    *("latency", "beside_peers", "in_flight", "batches", "large_tensors", "busy_owner", "callers"),
    *("creation", "compilation", "growth", "memory", "movement", "settings"),
)
RESULTS = Path(__file__).parent / "results"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("questions", nargs="*", metavar="question", help=f"of {', '.join(QUESTIONS)}; all, by default")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and nothing is written")
    parser.add_argument("--into", type=Path, default=RESULTS, help="the folder for results (default: %(default)s)")
    asked = parser.parse_args()
    unknown = set(asked.questions) - set(QUESTIONS)
    if unknown:
        parser.error(f"no such question: {', '.join(sorted(unknown))}")
    here = machine()  # before results are written, which the commit would be called dirty for
    every: list[Findings] = []
    for question in asked.questions or QUESTIONS:
        start = time.monotonic()
        every.append(importlib.import_module(f"benchmarks.{question}").measure(asked.quick))
        print(f"{question}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
        if every[-1].rounds and not asked.quick:
            report.write(every[-1], asked.into / question, here)
    for findings in every:
        print(report.as_text(findings))
    missed = [ratio for findings in every for ratio in findings.ratios() if not ratio.met]
    print(f"\n{len(missed)} targets missed" if missed else "\nall targets met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
