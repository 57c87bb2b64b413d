"""Keeps a worker from running out of files, and says so in time where it cannot.

Note [Files of lost workers]
    Through shared memory, torch's agent keeps 18 files and some 6 MiB for each worker that it was ever connected to, as
    long as the process lives. A process that has no files left is ended by torch's transport. So `join` raises the
    limit to what the system allows, and each worker that is lost may be a reason for a warning.
"""

from __future__ import annotations

import logging
import os
import resource
from contextlib import suppress
from typing import Final

_ENOUGH: Final = 65_536
_MANY: Final = 0.8
"""The part of the limit above which a warning is logged."""

_log = logging.getLogger("torchremote")


def higher_limit() -> int | None:
    """Returns the limit of open files that the system allows, `_ENOUGH` at most. None: it is no higher than now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    return None if soft == resource.RLIM_INFINITY or soft >= allowed else allowed


def raise_limit() -> None:
    """Raises the limit of open files to `higher_limit`."""
    higher = higher_limit()
    if higher is not None:
        with suppress(OSError, ValueError):  # some systems allow less than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (higher, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def check_open_files() -> None:
    """Logs a warning if this process has more than `_MANY` of its limit open."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        count = len(os.listdir("/dev/fd"))
    except OSError:  # there is none left to look with
        count = limit
    if limit != resource.RLIM_INFINITY and count > _MANY * limit:
        _log.warning(
            "torchremote: this process has %d files open, and may have %d. Without any, torch ends it. Through shared "
            "memory, torch keeps 18 of each worker that it was connected to. Start it again when it suits, with a "
            "higher `ulimit -n`, or join with shared_memory=False",
            count,
            limit,
        )
