"""Joins and leaves a group whose workers come, go, crash and come back."""

from __future__ import annotations

import atexit
import os
import re
import subprocess
import sys
import threading
import time
from typing import Any, Final

from torch.distributed.rpc import TensorPipeRpcBackendOptions

from .. import _torch, supported
from ..errors import GroupError, NotInitializedError
from ..link.failures import FORKED, check_not_forked
from ..link.timeouts import check_seconds
from ..locks import new_lock
from ..options import rpc_options
from . import hub
from .connection import join_error, say_hello
from .membership import MARGIN, Membership
from .open_files import raise_limit
from .standard_files import open_standard_files

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,127}")
_STARTING: Final = 30.0  # seconds in which a hub has to say where it listens
_BEGUN: Final = (
    "this process's group was begun with init_rpc, and RPC is running; end it with rpc.shutdown(), or begin with "
    "torchremote.join"
)

_lock = new_lock()
_membership: Membership | None = None


def join(
    name: str,
    address: str | None = None,
    *,
    timeout: float = 60.0,
    rpc_backend_options: TensorPipeRpcBackendOptions | None = None,
    **options: Any,
) -> None:
    """Joins a group whose workers may come, go, crash and come back, and starts RPC in this process.

    It takes the place of `init_rpc`. When it returns, every member can call this worker, and this worker every member.
    It raises the process's limit of open files to what the system allows, up to 65536.

    Args:
        name: this worker's name. It differs from those of all living members; one that crashed or left does not count.
        address: "host:port" of the group's hub: `python -m torchremote hub --address host:port`. None starts a hub on
            this machine, which only workers of this machine reach, and which ends with the last of them;
            `group_address()` says where it is.
        timeout: seconds in which the others have to know this worker. A hub that does not answer is noticed 5 s later.
        rpc_backend_options: what `rpc_options` returned. None makes them of `options`.
        **options: as for `rpc_options`, such as `threads`, `shared_memory`, `rpc_timeout`, `workers` and `devices`.
            Workers of device maps need not have joined.

    Raises:
        GroupError: RPC runs in this process already, or did in the one from which it was forked. Or there is no hub at
            `address`, the name is taken, a member does not answer in time, the device maps do not fit those of a
            member, or this process has run RPC on another network interface before. The message says which. Nothing of
            this worker is left in the group.
        ValueError: `name` cannot be a worker's, `timeout` is no number of seconds above 0, or both
            `rpc_backend_options` and options are given.
        RuntimeError, ValueError: as from `rpc_options`.

    >>> import torchremote as tr
    >>> tr.join("trainer")
    >>> tr.spawn("ps")
    <spawned worker 'ps', process ...>
    >>> tr.leave()
    """
    check_worker_name(name)
    if rpc_backend_options is not None and options:
        raise ValueError(f"rpc_backend_options and {', '.join(options)}: give only one of the two")
    seconds = check_seconds(timeout)
    chosen = rpc_options(**options) if rpc_backend_options is None else rpc_backend_options
    _enter(name, address, chosen, seconds)


def visit(name: str, address: str, *, timeout: float, **options: Any) -> None:
    """Joins as `join` does, for a look or a call. Members that do not answer in time are no error."""
    _enter(name, address, rpc_options(**options), timeout, visits=True)


def _enter(
    name: str, address: str | None, options: TensorPipeRpcBackendOptions, timeout: float, visits: bool = False
) -> None:
    global _membership
    _check_thread("join")
    supported.check_has("join", supported.GROUPS, "use init_rpc with a world size")
    if _torch.was_forked_from_rpc():
        raise join_error(name, FORKED)
    with _lock:
        open_standard_files()
        raise_limit()
        if _torch.rpc_running():
            theirs = _membership is None or not _membership.current
            raise join_error(name, _BEGUN if theirs else "RPC is running in this process; leave its group first")
        where = _start_hub(name) if address is None else address
        if _membership is not None:  # rpc.shutdown() ended RPC, or a second Ctrl-C the leaving; the hub has not seen it
            try:
                _membership.leave(0.0)
            finally:  # RPC has ended, so there is nothing to leave another time
                _membership = None
        deadline = time.monotonic() + timeout + MARGIN
        connection, welcome = say_hello(where, name, timeout, deadline, visits)
        try:
            # It is known before RPC runs: whatever Ctrl-C ends here, RPC does not run without a membership to leave.
            _membership = Membership(name, connection)
            _membership.join(welcome, options, deadline)
        except BaseException:
            if _membership is None or not _membership.current:
                connection.close()  # a notebook keeps the error, and with it the connection
            raise


def leave(*, timeout: float = 10.0) -> None:
    """Leaves the group that `join` joined, and ends RPC in this process. Nobody waits for anybody else.

    The others are told at once. Calls in flight, of this worker and to it, have `timeout` to end.

    A call that this worker runs for another one, and that has not ended by then, cannot be ended: torch waits for it,
    and so does this function. A program that must not wait calls `os._exit` from another thread.

    Args:
        timeout: seconds; 0 does not wait for calls.

    Raises:
        NotInitializedError: this process is in no group.
        GroupError: `init_rpc` began its group. Or it is called in a call of another worker, for whose end it would
            wait.
        ValueError: `timeout` is no number of seconds.

    >>> import torchremote as tr
    >>> tr.join("visitor")
    >>> tr.leave()
    """
    global _membership
    _check_thread("leave")
    with _lock:
        membership = joined("leave")
        membership.leave(check_seconds(timeout, above_zero=False))
        _membership = None  # only now: whoever was interrupted may leave again


def check_worker_name(name: object) -> None:
    """Raises ValueError if `name` cannot be that of a worker."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"name={name!r}: letters, digits, _ and - make a worker's name, at most 127 of them")


def _check_thread(asked: str) -> None:
    """Raises GroupError on a thread of torch's: such a one runs calls, and `leave` waits for calls and for threads."""
    if isinstance(threading.current_thread(), threading._DummyThread):  # Python did not start it
        raise GroupError(
            f"{asked}: called in a call of another worker, or in a callback, and so on a thread of RPC, which ends "
            f"only after them; call it on a thread of your own: threading.Thread(target=torchremote.{asked}).start()"
        )


def group_address() -> str:
    """Returns the address of the group's hub, as "host:port", for workers that join later.

    Returns:
        The address, as this worker reaches it.

    Raises:
        NotInitializedError: this process is in no group.
        GroupError: `init_rpc` began its group.

    >>> import torchremote as tr
    >>> tr.join("first")
    >>> tr.group_address()
    '127.0.0.1:...'
    >>> tr.leave()
    """
    return joined("group_address").address


def joined(asked: str) -> Membership:
    """Returns this process's place in its group.

    Args:
        asked: the function that needs it, for the error.

    Raises:
        NotInitializedError: it has none.
        GroupError: it is in a group that `init_rpc` began.
    """
    check_not_forked(f"{asked}: ")
    if _membership is None or not _membership.current:
        if _torch.rpc_running():
            raise GroupError(f"{asked}: {_BEGUN}")
        raise NotInitializedError(f"{asked}: this process is in no group; torchremote.join(name) joins one")
    return _membership


def _start_hub(name: str) -> str:
    """Starts a hub on this machine, for the worker `name`, that ends with its last worker. Returns its address."""
    command = [sys.executable, "-I", hub.__file__, "127.0.0.1:0"]
    try:
        started = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=_STARTING, check=False)
    except subprocess.TimeoutExpired:
        raise join_error(
            name,
            f"the group's hub did not say within {_STARTING:g} s where it listens: is this machine too busy? Try "
            "again, or start one, python -m torchremote hub --address 127.0.0.1:29600, and join there",
        ) from None
    said = re.search(r"listens on (\S+)", started.stdout)
    if said is None:
        raise join_error(
            name, f"the group's hub did not start; it ended with {started.returncode} and said {started.stdout!r}"
        )
    return said[1]


def _end() -> None:
    """Leaves when the interpreter ends, for whoever did not. Waits for no other worker."""
    if _membership is not None:
        _membership.end()


def _after_fork() -> None:
    global _membership
    if _membership is not None:
        _membership.forget()
        _membership = None


atexit.register(_end)
os.register_at_fork(after_in_child=_after_fork)
