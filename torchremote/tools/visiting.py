"""Joins a group for a while, for all commands that reach into one; reads its address, and prints what they found."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from .. import _torch
from .._torch import WorkerInfo
from ..errors import AbsentWorkerError
from ..group.hub import split_address
from ..group.join import check_worker_name, leave, visit
from ..link.places import Words, find_worker
from ..link.timeouts import LONGEST_TIMEOUT

ADDRESS_VARIABLE: Final = "TORCHREMOTE_ADDRESS"
"""The environment variable that has the address of a group's hub."""
DEFAULT_ADDRESS: Final = "127.0.0.1:29600"
VISITOR: Final = "cli-"
"""Begins the names of commands that join a group for a while."""
EXIT_FAILED: Final = 1
EXIT_WRONG: Final = 2
EXIT_LOST: Final = 3
"""Exit statuses: an error; a command that is written wrongly, as argparse has it; a worker that is absent, lost, or
does not answer in time."""
_THREADS: Final = 4
_LEAVING: Final = 1.0  # seconds that calls in flight have to end when a command leaves


def chosen_address() -> str:
    """Returns the address that the environment has, or the default."""
    return os.environ.get(ADDRESS_VARIABLE, DEFAULT_ADDRESS)


def seconds(text: str) -> float:
    """Reads a number of seconds for argparse. It is at most what torch can wait for."""
    number = float(text)
    if math.isnan(number) or number < 0:
        raise ValueError  # argparse says so, by the name of this function
    return min(number, LONGEST_TIMEOUT)


def seconds_above_0(text: str) -> float:
    """Reads as `seconds` does, and refuses 0."""
    if (number := seconds(text)) == 0:
        raise ValueError
    return number


def hub_address(text: str) -> str:
    """Reads an address for argparse, and returns it as it is written."""
    try:
        split_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def worker_name(text: str) -> str:
    """Reads the name of a worker that is to join, for argparse."""
    try:
        check_worker_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


seconds_above_0.__name__ = "number of seconds above 0"
seconds.__name__ = "number of seconds"


def add_address(parser: argparse.ArgumentParser, timeout: float = 5.0) -> None:
    """Adds the options of a command that joins a group. `timeout`: the default for joining, in seconds."""
    parser.add_argument(
        "--address",
        type=hub_address,
        default=chosen_address(),
        metavar="HOST:PORT",
        help=f"the group's hub (default: ${ADDRESS_VARIABLE}, or else {DEFAULT_ADDRESS})",
    )
    parser.add_argument(
        "--timeout",
        type=seconds_above_0,
        default=timeout,
        metavar="SECONDS",
        help="for joining the group (default: %(default)g)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Adds the option that makes a command print JSON."""
    parser.add_argument("--json", action="store_true", help="print JSON")


@contextmanager
def visiting(options: argparse.Namespace) -> Iterator[None]:
    """Joins the group at `options.address` under a name that nobody else has, and leaves it at the end.

    Members that do not answer keep it for `options.timeout` only.
    """
    host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())
    name = f"{VISITOR}{host[:64]}-{os.getpid()}"
    visit(name, options.address, timeout=options.timeout, threads=_THREADS, shared_memory=False)
    try:
        yield
    finally:
        leave(timeout=_LEAVING)


def workers_there() -> list[str]:
    """Lists the workers of this process's group, but for those that visit it."""
    return sorted(info.name for info in _torch.worker_infos() if not info.name.startswith(VISITOR))


def find_there(worker: str, address: str) -> WorkerInfo:
    """Finds a worker of the group at `address`, which this process visits.

    Raises:
        AbsentWorkerError: it is not there.
    """
    try:
        return find_worker(worker, Words(worker))
    except AbsentWorkerError:
        raise AbsentWorkerError(
            f"there is no worker {worker!r} in the group at {address}; it has {', '.join(workers_there()) or 'none'}; "
            f"`torchremote ls` lists them with what they serve; start it with `torchremote serve ... --worker {worker}`"
            f", or name the address of another group's hub with --address or {ADDRESS_VARIABLE}"
        ) from None


def tell(text: str) -> None:
    """Says on standard error what a command is doing."""
    print(f"torchremote: {text}", file=sys.stderr, flush=True)


def report(options: argparse.Namespace, text: str, **fields: Any) -> None:
    """Prints what a command did: a line of text, or with --json the fields."""
    print(json.dumps(fields) if options.json else text, flush=True)
