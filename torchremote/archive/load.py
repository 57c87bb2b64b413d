"""Loads archives, and connects their stubs again, by worker and name.

Saving and loading themselves are torch's. What a stub writes is in jit/lower/stub.py, Note [Saved stubs].
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from os import PathLike, fspath
from types import NoneType
from typing import IO, Any, Final

import torch

from .. import _torch
from ..caller.creating.pending_stub import ask_for_served
from ..caller.finding.connect import asked_until
from ..caller.messages.lost_workers import worker_is_lost
from ..caller.messages.waiting import unless_of_a_handler
from ..caller.stubs.shared_mode import has_set_mode
from ..caller.stubs.stub import Stub, attach
from ..errors import (
    InterfaceError,
    NotInGroupError,
    PlaceError,
    TorchRemoteError,
)
from ..jit.export import MODE_NAMES
from ..jit.read.shown import repr_of
from ..link.failures import GONE
from ..link.places import Words, check_worker, find_worker
from ..link.route import Route, address_of
from ..link.stubs import compiled_at, has_stubs, stubs_in

_log = logging.getLogger("torchremote")
_WAITS: Final = "torchremote.reconnect(model, wait=seconds) waits until the workers are there and serve the names"


def load(
    file: str | PathLike[str] | IO[bytes],
    map_location: str | torch.device | None = None,
    *,
    workers: Mapping[str, str] | None = None,
) -> Any:
    """Loads a scripted model with `torch.jit.load`, and connects the stubs in it with `reconnect`.

    Args:
        file: a path, or a file open for reading in binary mode. Loading runs its code: load only what you trust.
        map_location: the device for the model's own tensors, as for `torch.jit.load`.
        workers: as for `reconnect`.

    Returns:
        The model; or a stub, when the file holds a stub alone.

    Raises:
        OSError: the file is not there, or cannot be opened.
        RuntimeError: `torch.jit.load` cannot read it.
        TorchRemoteError: a stub in it cannot be connected, as `reconnect` says.

    >>> import io, torch
    >>> file = io.BytesIO()
    >>> torch.jit.save(torch.jit.script(torch.nn.Linear(4, 2)), file)
    >>> _ = file.seek(0)
    >>> load(file)(torch.ones(3, 4)).shape
    torch.Size([3, 2])
    """
    if isinstance(file, (str, PathLike)):
        with open(file, "rb"):  # torch says less of a file that cannot be opened, and in a ValueError
            pass
    try:
        model = _torch.load_scripted(file, map_location)
    except RuntimeError as error:
        if not isinstance(file, (str, PathLike)):
            raise
        raise RuntimeError(f"{fspath(file)}: torch.jit.load cannot read it: {error}") from None
    return reconnect(model, workers) if has_stubs(model) else model


def reconnect(model: torch.nn.Module, workers: Mapping[str, str] | None = None, *, wait: float | None = None) -> Any:
    """Connects every stub of a served module in `model`, by the worker and the name that it was saved with.

    Set the mode afterwards: `train()` and `eval()` of a model that is not connected reach no remote module. If a stub
    was saved or set in another mode than its module has, a warning says so.

    If one module is not found, no stub is changed. A stub that is connected already is connected anew: its module may
    be served elsewhere by now. It stays the same object, with the attributes that were set on it. Other threads may
    call the model meanwhile, and may reconnect it, too: each call goes to the old module or to the new one. The Python
    classes of the interfaces are not needed.

    Args:
        model: a model that torch.jit.load returned, or a module that holds one.
        workers: where modules have moved, {"old worker": "new worker"}; others are where they were.
        wait: seconds for which to wait until all workers are there and serve the names. None asks once.

    Returns:
        `model`; or a stub, if `model` is a stub itself: the same one, if it was connected before.

    Raises:
        InterfaceError: there is no stub in `model`. Freezing leaves none: it makes them part of the code around them.
        PlaceError: a worker does not exist, or a key of `workers` has no stub. AbsentWorkerError, which is one: the
            worker has not joined, or did not within `wait` seconds.
        WireError: a worker is lost. NotInGroupError, which is one: it left the group or crashed, and is not back.
        ServedNameError: a worker serves nothing under the name.
        ProtocolError: another release saved a stub, and this one cannot connect it.
        MismatchError: a module does not implement the interface with which the stub was saved. It may have more methods
            than that, and other defaults.
        ValueError: `wait` is no number of seconds.

    In a group with a worker "owner":

    >>> import io, torch, torch.distributed.rpc as rpc, torchremote
    >>> class Layer:
    ...     def forward(self, input: torch.Tensor) -> torch.Tensor: ...
    >>> layer = torchremote.create("owner", Layer, torch.nn.Linear, args=(4, 2), name="saved")
    >>> file = io.BytesIO()
    >>> torch.jit.save(layer, file)
    >>> _ = file.seek(0)
    >>> again = reconnect(torch.jit.load(file))
    >>> again(torch.ones(3, 4)).shape
    torch.Size([3, 2])
    >>> torchremote.withdraw("saved", "owner")
    """
    if not isinstance(workers, (Mapping, NoneType)):
        raise PlaceError(f"workers={repr_of(workers)}: not a mapping from old workers to new ones")
    found = list(stubs_in(model))
    if not found:
        raise InterfaceError(
            f"reconnect: no stub in this {type(model).__name__}; a frozen model has none, for freezing makes them part "
            "of the code around them: freeze only parts without stubs"
        )
    all_saved = [_Saved(parent, key, stub, workers or {}) for parent, key, stub in found]
    saved = [it for it in all_saved if it.name]  # the others are connected, to modules without a name
    known = {it.saved_worker for it in saved}
    if workers and not known >= workers.keys():
        unknown = ", ".join(map(repr, sorted(workers.keys() - known)))
        raise PlaceError(f"workers={dict(workers)!r}: no stub is on {unknown}; stubs are on {', '.join(sorted(known))}")
    routes = asked_until(wait, _WAITS, lambda within: _routes(saved, within))
    # torch.jit's train() and eval() of a stub that is not connected reach no module. Those of another one reached the
    # module before.
    unlike = [
        f"{it.name!r} on {it.where} is in {MODE_NAMES[route.training]} mode, and its stub in the other one"
        for it, route in zip(saved, routes, strict=True)
        if bool(it.stub.training) != route.training and (not isinstance(it.stub, Stub) or has_set_mode(it.stub))
    ]
    if unlike:
        _log.warning(
            "reconnect: %s: the remote module's mode counts, which all its callers share; call train() or eval() of "
            "the model after reconnect() to set it",
            "; ".join(unlike),
        )
    for it, route in zip(saved, routes, strict=True):
        connected = attach(it.stub, it.compiled, route, is_called=True)
        if it.parent is None:
            return connected
        if it.key is not None and connected is not it.stub:
            _torch.replace_child(it.parent, it.key, connected)
    return model


class _Saved:
    """A stub as it was saved, and what that means here."""

    def __init__(
        self, parent: torch.nn.Module | None, key: str | None, stub: torch.jit.ScriptModule, workers: Mapping[str, str]
    ) -> None:
        self.parent, self.key, self.stub = parent, key, stub  # as `stubs_in` yields them
        address = address_of(stub)
        self.saved_worker, self.name, self.timeout = address.worker, address.name, address.seconds
        self.where = workers.get(address.worker, address.worker)
        self.compiled = stub._torchremote_compiled if isinstance(stub, Stub) else compiled_at(address)
        self.moved = address.worker in workers

    def words(self) -> Words:
        """Returns the words for errors about its worker."""
        if self.moved:
            return Words(f"workers[{self.saved_worker!r}]={repr_of(self.where)}")
        return Words(
            f"{self.compiled.interface.name} {self.name!r} on {self.where}",
            f"name one of them that serves it: workers={{{self.saved_worker!r}: ...}}",
        )


def _routes(saved: list[_Saved], within: float | None) -> list[Route]:
    """Asks for all modules. `within`: seconds that workers have to answer; None for RPC's default."""
    for it in saved:
        check_worker(it.where, it.words())
        if worker_is_lost(it.where):
            raise NotInGroupError(f"{it.compiled.interface.name} on {it.where}: {GONE}")
    workers = [find_worker(it.where, it.words()) for it in saved]
    asked = [
        ask_for_served(worker, it.compiled, it.name, it.timeout, within)
        for worker, it in zip(workers, saved, strict=True)
    ]
    routes, errors = [], []
    for pending in asked:
        try:
            routes.append(pending.route())
        except unless_of_a_handler(TorchRemoteError) as error:
            errors.append(error)
    if errors:
        for other in errors[1:]:
            errors[0].add_note(f"and: {other}")
        raise errors[0]
    return routes
