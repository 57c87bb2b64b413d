"""Checks timeouts as users give them, and converts them to what torch and Python can wait for."""

from __future__ import annotations

import math

import torch.distributed.rpc as rpc

from .. import _torch
from ..errors import NotInitializedError
from ..jit.read.shown import repr_of
from ..options import LONGEST_TIMEOUT, is_seconds, whole_milliseconds
from .failures import WHEN_RUNNING, check_not_forked


def check_timeout(timeout: float | None, name: str = "timeout") -> float | None:
    """Returns a timeout, in seconds, as torch can have it: see `whole_milliseconds`.

    Raises:
        ValueError: it is no number of seconds.
    """
    if timeout is None:
        return None
    if not is_seconds(timeout):
        otherwise = ", 0 for no limit, or None for RPC's default" if name == "timeout" else ", or None"
        raise ValueError(f"{name}={repr_of(timeout)}: a number of seconds is wanted{otherwise}")
    return whole_milliseconds(timeout)


def check_seconds(timeout: float, above_zero: bool = True) -> float:
    """Returns a timeout as Python can wait for it, which is not without end.

    Raises:
        ValueError: it is no number of seconds, or it is 0 and `above_zero`.
    """
    if not is_seconds(timeout) or (above_zero and timeout == 0):
        least = "more than 0" if above_zero else "0 or more"
        raise ValueError(f"timeout={repr_of(timeout)}: a number of seconds is wanted, {least}")
    return float(min(timeout, LONGEST_TIMEOUT))


def seconds_of(timeout: float | None, where: str = "") -> float:
    """Returns the seconds that a call may take.

    Args:
        timeout: that of its stub.
        where: the beginning of the error, as in "Encoder on ps: ".

    Raises:
        NotInitializedError: RPC is not running in this process.
    """
    check_running(where)
    try:
        return (rpc.get_rpc_timeout() if timeout is None else timeout) or math.inf
    except RuntimeError:  # another thread ended RPC just now
        check_running(where)
        raise


def checked_own_id() -> int:
    """Returns this worker's id, or raises NotInitializedError if RPC is not running in this process."""
    found = _torch.own_id()
    if found is None:
        check_not_forked()
        raise _not_running()
    return found


def check_running(where: str = "") -> None:
    """Raises NotInitializedError if RPC is not running in this process. `where`: the beginning of the error."""
    check_not_forked(where)
    if not _torch.rpc_running():
        raise _not_running(where)


def _not_running(where: str = "") -> NotInitializedError:
    return NotInitializedError(f"{where}RPC is not running in this process; {WHEN_RUNNING}")


def timeout_of(seconds: float) -> float:
    """Returns the timeout of a stub whose calls may take `seconds`, which may be infinite."""
    return 0.0 if seconds == math.inf else seconds
