"""What every peer's script ends with: it works when it is told to."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping

Block = Callable[[int], list[float]]
"""Makes so many calls, and returns what was measured."""

# Libraries print what they like; the pipe is for answers.
_answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def drive(call: Callable[[], object]) -> None:
    """Makes calls, and answers with the seconds of each."""

    def block(calls: int) -> list[float]:
        seconds = []
        for _ in range(calls):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        return seconds

    drive_blocks({"call": block})


def drive_blocks(blocks: Mapping[str, Block]) -> None:
    """Has the block that each line names make its calls, and answers with what it measured."""
    print("ready", file=_answers, flush=True)
    for line in sys.stdin:
        kind, calls = json.loads(line)
        print(json.dumps(blocks[kind](calls)), file=_answers, flush=True)
