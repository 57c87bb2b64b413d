"""Connects to modules that workers serve under a name, and has workers withdraw them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar, cast, overload

from ...errors import AbsentWorkerError, NotInGroupError, ServedNameError, TorchRemoteError
from ...jit import CompiledInterface, compile_interface
from ...link.places import find_worker
from ...link.timeouts import check_timeout
from ...owner import served
from ...owner.served import check_served_name
from ...typing import HasStub, StubT
from ..creating.pending import Pending
from ..creating.pending_stub import ask_for_served
from ..messages.asking import ask
from ..messages.pauses import pause_of
from ..messages.waiting import unless_of_a_handler
from ..replicas.pending import NOT_YET, PendingReplicas

Found = TypeVar("Found")

_WAITS: Final = "torchremote.connect(..., wait=seconds) waits until the worker is there and serves the name"
_LONGEST_PAUSE: Final = 0.5
"""Seconds between two questions for a name that is waited for, at most."""
_SHORTEST_QUESTION: Final = 1.0
"""Seconds that a worker has for the answer, also when less is left of `wait`."""


@overload
def connect(
    where: str | Sequence[str],
    interface: HasStub[StubT],
    name: str,
    *,
    wait: float | None = None,
    timeout: float | None = None,
) -> StubT: ...
@overload
def connect(
    where: str | Sequence[str], interface: type, name: str, *, wait: float | None = None, timeout: float | None = None
) -> Any: ...
def connect(
    where: str | Sequence[str],
    interface: type | HasStub[Any],
    name: str,
    *,
    wait: float | None = None,
    timeout: float | None = None,
) -> Any:
    """Connects to the module that a worker serves under `name`, or to the ones that several workers do.

    Args:
        where: "worker" or "rank:N". No device is given: a served module stays on its device. A list of workers makes
            replicas: each call goes to the one with the fewest calls in flight. One that is lost is left out, and takes
            part again when its worker serves the name again.
        interface: a class of annotated methods. The module implements it. It may have fewer methods than the interface
            with which the module is served, and other defaults.
        name: the name that was given to `serve` or to `create(..., name=)`.
        wait: seconds for which to wait until the worker serves the name, or one of the list does. In a group that
            workers `join`, the worker itself may also come, or come back, in that time. None asks once, and the worker
            has RPC's default timeout to answer.
        timeout: seconds that each call of the stub may take; 0 for no limit, None for RPC's default.

    Returns:
        A stub of the module, as from `create`; for a list, an object with the same methods. Its `<m>_many` sends parts
        of the calls to all replicas at once.

    Raises:
        NotInitializedError: RPC is not running in this process.
        PlaceError: there is no such worker, or `where` has a device, or is a list that is empty or names one twice.
            AbsentWorkerError, which is one: the worker has not joined, or did not within `wait` seconds.
        InterfaceError: `interface` has a signature that cannot cross.
        ServedNameError: the worker serves nothing under `name`, or did not within `wait` seconds. Or `name` is no
            string, or empty.
        MismatchError: the module does not implement `interface`.
        WireError: the worker is lost, or does not answer in time.
        ProtocolError: the worker runs a release of torchremote that does not understand this one.
        ValueError: `wait` or `timeout` is no number of seconds.

        Of a list, one worker that serves the name is enough. The others have 5 s more to answer; then they are left
        out, and looked for. A module that does not implement the interface is an error all the same.

    One worker creates a module with a name:

    >>> import torch
    >>> from torchremote import create
    >>> class Layer:
    ...     def forward(self, input: torch.Tensor) -> torch.Tensor: ...
    >>> first = create("owner", Layer, torch.nn.Linear, args=(4, 2), name="layer")

    Any other worker can connect to it:

    >>> layer = connect("owner", Layer, "layer")
    >>> layer(torch.ones(3, 4)).shape
    torch.Size([3, 2])

    At the end, any worker can withdraw the name:

    >>> from torchremote import withdraw
    >>> withdraw("layer", "owner")
    """
    compiled = compile_interface(interface)
    check_served_name(name)
    timeout = check_timeout(timeout)
    return asked_until(wait, _WAITS, lambda within: _start(where, compiled, name, timeout, within).wait())


def asked_until(wait: float | None, waits: str, find: Callable[[float | None], Found]) -> Found:
    """Returns what `find` returns. Calls it again while it raises one of `NOT_YET`, for `wait` seconds; None: once.

    Args:
        waits: what the error says if it was called once, and waiting may help.
        find: takes the seconds in which a worker has to answer; None for RPC's default.

    Raises:
        ValueError: `wait` is no number of seconds.
    """
    end = time.monotonic() + (check_timeout(wait, "wait") or 0)
    number = 0
    while True:
        try:
            return find(None if wait is None else max(end - time.monotonic(), _SHORTEST_QUESTION))
        except unless_of_a_handler(*NOT_YET) as error:
            left = end - time.monotonic()
            if wait is None:
                if isinstance(error, (ServedNameError, AbsentWorkerError, NotInGroupError)):
                    _say_more(error, waits)
                raise
            if left <= 0:
                _say_more(error, f"waited for it for {wait:g} s")
                raise
        time.sleep(min(pause_of(number, _LONGEST_PAUSE), left))
        number += 1


def _say_more(error: TorchRemoteError, more: str) -> None:
    """Adds words to the message of an error, before torch's report. Its notes stay."""
    said, gap, report = str(error).partition("\n\n")
    error.args = (f"{said}; {more}{gap}{report}",)


@overload
def connect_async(
    where: str | Sequence[str], interface: HasStub[StubT], name: str, *, timeout: float | None = None
) -> Pending[StubT]: ...
@overload
def connect_async(
    where: str | Sequence[str], interface: type, name: str, *, timeout: float | None = None
) -> Pending: ...
def connect_async(
    where: str | Sequence[str], interface: type | HasStub[Any], name: str, *, timeout: float | None = None
) -> Pending:
    """Starts to connect to the module that a worker serves under `name`, and does not wait for the answer.

    Args:
        where, interface, name, timeout: as for `connect`.

    Returns:
        A `Pending`. Its `.wait()` returns the stub, and so does `await` in an event loop.

    Raises:
        As `connect`. Errors that the caller can see are raised at once, and those of the owner by `.wait()`.

    In a group with a worker "owner":

    >>> import torch
    >>> from torchremote import create, withdraw
    >>> class Layer:
    ...     def forward(self, input: torch.Tensor) -> torch.Tensor: ...
    >>> first = create("owner", Layer, torch.nn.Linear, args=(4, 2), name="layer")
    >>> layer = connect_async("owner", Layer, "layer").wait()
    >>> withdraw("layer", "owner")
    """
    compiled = compile_interface(interface)
    check_served_name(name)
    return _start(where, compiled, name, check_timeout(timeout))


def _start(
    where: str | Sequence[str],
    compiled: CompiledInterface,
    name: str,
    timeout: float | None,
    within: float | None = None,
) -> Pending:
    """Asks one worker for its module, or several for theirs. `within`: seconds to answer; None for RPC's default."""
    if isinstance(where, (list, tuple)):
        return PendingReplicas(compiled, name, timeout, where, within)
    worker = find_worker(cast(str, where))  # it refuses what is no string
    return ask_for_served(worker, compiled, name, timeout, within)


def withdraw(name: str, where: str | None = None) -> None:
    """Stops serving the module that a worker serves under `name`.

    Running calls finish. Later calls raise StaleStubError at their caller.

    Args:
        name: the name that was given to `serve` or to `create(..., name=)`.
        where: "worker" or "rank:N". None withdraws a module of this process; RPC need not be running.

    Raises:
        NotInitializedError: `where` is given, and RPC is not running in this process.
        ServedNameError: the worker serves nothing under `name`.
        PlaceError: there is no such worker.
        WireError: the worker is lost, or does not answer within RPC's default timeout.

    >>> import torch
    >>> from torchremote import serve
    >>> class Doubler:
    ...     def forward(self, x: torch.Tensor) -> torch.Tensor: ...
    >>> class Doubling(torch.nn.Module):
    ...     def forward(self, x: torch.Tensor) -> torch.Tensor:
    ...         return 2 * x
    >>> serve(Doubling(), Doubler, "doubler")
    >>> withdraw("doubler")
    """
    if where is None:
        served.withdraw_here(name)
        return
    worker = find_worker(where).name
    ask(worker, f"withdraw on {worker}", served.withdraw_here, name, timeout=None)
