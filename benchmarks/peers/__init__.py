"""The same work through other systems: each in an environment of its own, driven through a pipe.

A peer is a script that sets up its own server and client, and prints `ready`. Each line on its input is a JSON list of
a kind of work and a number: it makes so many calls of that kind, and prints what it measured as a JSON list. So a
benchmark takes it in turn with the others, though it is another interpreter.
"""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from ..timing import Block

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parent.parent / ".venv-peers"
# Those that know one kind of work: a call, of which they measure the seconds.
NAMES = {"ray": "Ray actor", "monarch": "Monarch actor", "grpc": "gRPC", "zmq": "pyzmq", "rpyc": "rpyc"}


class Missing(Exception):
    """A peer cannot take part."""


@contextlib.contextmanager
def running(name: str) -> Iterator[Callable[[str], Block]]:
    """Starts a peer, which ends with the context. Yields what it does, by the kind of work.

    Raises:
        Missing: it is not installed, or does not start.
    """
    python, script = ENVIRONMENTS / name / "bin" / "python", HERE / f"{name}_peer.py"
    if not python.exists():
        raise Missing("not installed; `make bench-peers` does that")
    with open(script.with_suffix(".log"), "w") as log:
        process = subprocess.Popen(
            [python, "-W", "ignore", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
    assert process.stdin
    assert process.stdout
    try:
        if process.stdout.readline().strip() != "ready":
            raise Missing(f"does not start; {log.name} says why")
        yield functools.partial(_block, process)
    finally:
        process.stdin.close()  # the end of its input is the end of it
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _block(process: subprocess.Popen[str], kind: str) -> Block:
    def block(calls: int) -> list[float]:
        assert process.stdin
        assert process.stdout
        print(json.dumps([kind, calls]), file=process.stdin, flush=True)
        measured: list[float] = json.loads(process.stdout.readline())
        return measured

    return block
