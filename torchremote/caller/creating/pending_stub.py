"""Asks owners for modules, and makes stubs of their answers."""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Final

import torch

from ... import _torch, chores
from ..._torch import WorkerInfo
from ..._version import __version__
from ...errors import (
    CallTimeoutError,
    CreationError,
    NotInGroupError,
    NotInitializedError,
    ProtocolError,
    WireError,
)
from ...jit import CompiledInterface
from ...link.failures import FAILURES, GONE, check_not_forked, explain
from ...link.route import Route
from ...owner.create import Created, CreateRequest, Refusal, connect_here
from ...owner.lives import holders, leases
from ...typing import StubT
from ..messages.answer import until_done_in_loop
from ..messages.exchange import settle
from ..messages.lost_workers import worker_is_lost
from ..messages.waiting import is_of_a_handler
from ..stubs.shared_mode import show_answered
from ..stubs.stub import make_stub
from .built_here import built_here, is_only_here, is_unknown
from .pending import Pending
from .sending import ask_owner, cancel_message, cancelled_if_interrupted, send_requests, with_remedy

_PACKAGE: Final = __name__.partition(".")[0]
_RPC_TIMEOUT: Final = "raise it with join(..., rpc_timeout=), or rpc_options(rpc_timeout=) for init_rpc"


def ask_for_served(
    worker: WorkerInfo,
    compiled: CompiledInterface,
    name: str,
    timeout: float | None,
    within: float | None = None,
    followed: bool = True,
    is_call: bool = False,
) -> PendingStub:
    """Asks a worker for the module that it serves under `name`, and does not wait for the answer.

    Args:
        timeout: that of the stub. None: RPC's default.
        within: seconds that the worker has to answer; 0 for no limit, None for RPC's default.
        followed: whether the native part has calls of the stub follow the module: see link/route.py.
        is_call: it is a call of a stub that asks. Then `within` is what is left of `timeout`, and the error says so.

    Raises:
        NotInGroupError: the worker is lost, and about to be taken off the list of workers.
    """
    interface = compiled.interface
    if worker_is_lost(worker.name):
        raise NotInGroupError(f"{interface.name} on {worker.name}: {GONE}")
    answer = ask_owner(compiled, worker, connect_here, interface.name, interface.text, name, within=within)
    if within is None or (is_call and timeout is None):
        late = f"RPC's default timeout; {_RPC_TIMEOUT}"
    elif is_call:
        late = f"{timeout:.3g} s, the stub's timeout; give the stub more time with torchremote.with_timeout"
    else:
        late = f"{within:.3g} s"
    late = f"asked for {name!r}, it did not answer within {late}"
    return PendingStub(answer, compiled, worker, name, timeout, ticket=None, followed=followed, late=late)


def send_request(
    compiled: CompiledInterface, worker: WorkerInfo, request: CreateRequest, timeout: float | None
) -> PendingStub:
    """Asks a worker for one module. `timeout`: that of the stub."""
    answer, unknown = None, None
    with cancelled_if_interrupted(worker, request.ticket):
        if not is_only_here(worker, request):
            try:
                answer = send_requests(compiled, worker, [request])
            except CreationError as error:
                if is_of_a_handler(error) or not is_unknown(request, error):
                    raise
                unknown = error
        if answer is None:  # out of the handler, so that an error of the user's class stands alone
            request = built_here(compiled, worker, request, unknown)
            answer = send_requests(compiled, worker, [request])
        return PendingStub(answer, compiled, worker, request.name, timeout, request.ticket, request=request)


class PendingStub(Pending[StubT]):
    """Stands for the stub of one module."""

    _name = _ticket = None  # for `__del__` after an `__init__` that Ctrl-C ended

    def __init__(
        self,
        answer: torch.futures.Future[Any],
        compiled: CompiledInterface,
        worker: WorkerInfo,
        name: str | None,
        timeout: float | None,
        ticket: str | None,
        position: int = 0,
        request: CreateRequest | None = None,
        followed: bool = True,
        late: str = f"not created within RPC's default timeout; {_RPC_TIMEOUT}",
    ) -> None:
        """Takes over the answer to a message.

        Args:
            answer: the Future of the list of answers to one message.
            ticket: cancels the message. None if the message creates nothing, or if another Pending has its ticket.
            position: in that list, of the answer for this stub.
            request: the module to build here, if the worker cannot import it. None if nothing is to be built.
            followed: as in the route that it makes.
            late: what the error says if the worker does not answer in time.
        """
        self._compiled = compiled
        self._worker = worker
        self._name = name
        self._timeout = timeout
        self._ticket = ticket
        self._position = position
        self._request = request
        self._followed = followed
        self._late = late
        self._answer = answer
        self._asked = time.monotonic()
        self._stub: Any = None
        self.is_new = True  # False: the answer is that the module was there before
        self._lock = threading.RLock()  # a signal's handler may wait, too
        if name is None and ticket is not None:
            holders.give_signs(worker.name, answer)  # and start the sweeper, for __del__

    def __del__(self) -> None:
        # Nobody waited: the owner would hold the module for a stub that nobody makes. A module with a name stays.
        if self._name is None and self._ticket is not None:
            chores.soon(partial(cancel_message, self._worker, self._ticket))  # see chores.py, Note [Finalisers]

    @property
    def worker_id(self) -> int:
        """Returns the id of the worker that was asked, which has another one when it comes back."""
        worker_id: int = self._worker.id
        return worker_id

    def done(self) -> bool:
        return bool(self._answer.done())

    def wait(self) -> StubT:
        with self._lock:
            if self._stub is None:
                route = self.route()
                made = make_stub(self._compiled, route)
                show_answered(route.worker, route.handle, route.training, self._asked)
                self._stub = self._stub or made  # a handler may have made one meanwhile
            stub: StubT = self._stub
            return stub

    def until_done(self) -> Generator[Any, None, None]:
        yield from until_done_in_loop(self._answer)

    def route(self) -> Route:
        """Waits for the owner's answer, and returns the route to the module. It makes no stub."""
        check_not_forked()  # the answer may be there all the same
        # The owner's own functions answer with a refusal. torch may raise anything.
        answers: list[Created | Refusal] | None = None
        unknown = None
        try:
            answers = settle(self._answer, None, self._failure, catches=(Exception,))
        except CreationError as error:
            if self._request is None or is_of_a_handler(error) or not is_unknown(self._request, error):
                raise
            unknown = error
        if answers is None:
            self._send_built(unknown)
            answers = settle(self._answer, None, self._failure, catches=(Exception,))
            assert answers is not None
        self._request = None  # with the user's arguments, which may be large
        answer = answers[self._position]
        if isinstance(answer, Refusal):
            self._ticket = None  # it may have made others of the same message
            ours = f" (the caller runs {__version__})" if answer.error is ProtocolError else ""
            raise answer.error(f"{self._where}: {answer.message}{ours}")
        self.is_new = answer.is_new
        if answer.warning:
            warnings.warn(f"{self._where}: {answer.warning}", stacklevel=_depth_of_user())
        worker, lease = self._worker.name, None
        try:
            devices = tuple(_torch.mapped_devices(self._worker))
            if answer.ticket is not None:
                lease = leases.take(worker, answer.handle, answer.ticket)
        except FAILURES as error:  # the owner was lost since, or RPC has ended
            raise self._failure(error) from None
        self._ticket = None  # from now on, the lease keeps the module
        return Route(
            worker=worker,
            name=self._name,
            device=answer.device,
            handle=answer.handle,
            devices=devices,
            lease=lease,
            timeout=self._timeout,
            in_turn=answer.in_turn,
            training=answer.training,
            followed=self._followed,
            number=self.worker_id,
        )

    def _send_built(self, unknown: CreationError | None) -> None:
        """Builds the module here, and asks the worker to host it: see built_here.py. `unknown`: as there."""
        assert self._request is not None
        request, self._request = self._request, None
        built = built_here(self._compiled, self._worker, request, unknown)
        self._position, self._ticket = 0, built.ticket
        self._answer = send_requests(self._compiled, self._worker, [built])

    @property
    def _where(self) -> str:
        return f"{self._compiled.interface.name} on {self._worker.name}"

    def _failure(self, error: Exception) -> Exception:
        """Makes the error to raise for one of torch's. Cancels the creation, unless the module is to be built here."""
        failure = explain(error, self._compiled.interface.name, self._worker.name)
        if isinstance(failure, CallTimeoutError):
            failure = CallTimeoutError(f"{self._where}: {self._late}")
        elif not isinstance(failure, (WireError, NotInitializedError)):
            failure = CreationError(f"{self._where}: {with_remedy(error)}")
            if self._request is not None and is_unknown(self._request, failure):
                return failure
        cancel(self)
        return failure


def _depth_of_user() -> int:
    """Returns the `stacklevel` of a warning that names the line of the user's code that led to the caller."""
    frame, depth = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        frame, depth = frame.f_back, depth + 1
    return depth


def when_answered(pending: PendingStub, do: Callable[[], None]) -> None:
    """Has `do` run, in some thread, when the owner has answered. Then `pending.route()` does not wait."""
    _torch.when_done(pending._answer, lambda _: do())


def cancel(pending: PendingStub) -> None:
    """Has the owner remove what a Pending waits for, now or when it is done. Does not wait for that."""
    ticket, pending._ticket = pending._ticket, None
    if ticket is not None:
        cancel_message(pending._worker, ticket)
