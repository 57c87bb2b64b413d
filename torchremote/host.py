"""Modules on their owner: hosting, handles, leases, served names. Calls do not come through here: see jit/table.py.

Note [Lives]
    An unnamed module lives as long as a stub of it. Every stub holds the module's *lease*, an RRef to a Python object
    of the owner that is never sent with a call; when the last one goes, on whatever worker and be it inside a
    scripted model, torch deletes the object, and its finaliser has the module withdrawn. A served module has no lease
    and lives until `withdraw`.

Note [The sweeper]
    A finaliser runs wherever the last reference goes, possibly inside any of the functions below, so it may take no
    lock: it puts the handle on a SimpleQueue, which is made for that. One daemon thread takes handles from the queue,
    withdraws them, and empties graveyards after `GRACE` seconds.
"""

from __future__ import annotations

import atexit
import hashlib
import heapq
import queue
import secrets
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import torch

from .errors import CapacityError, CreationError, InterfaceError, MismatchError, ServedNameError
from .fit import check_fit
from .jit import Contract, Interface, _torch, compile_interface
from .jit.cache import COMPILING
from .jit.table import CAPACITY, INDEX_BITS, SLOT_BITS
from .workers import device_of

GRACE: Final = 10.0
"""Seconds for which a withdrawn module's slot is kept. A call holds a slot uncounted for nanoseconds; it would have to
be stopped there, by the scheduler, for this long, while the rest of its process runs on."""

_TOKEN_BITS: Final = 63 - INDEX_BITS
_lock = threading.Lock()  # all that is below is changed under it; RPC threads and the sweeper meet here
_shelves: dict[tuple[str, str], _Shelf] = {}
_hosted: dict[int, _Shelf] = {}
_served: dict[str, _Served] = {}


def host(contract: Contract, module: torch.jit.ScriptModule) -> int:
    """Makes `module` callable under a new handle.

    Raises:
        MismatchError: it does not implement the interface.
        CapacityError: this worker hosts as many modules of the interface as a table holds.
        InterfaceError: a class of the interface was defined anew in this process.
    """
    if not contract.hosts:
        raise InterfaceError(
            f"{contract.interface.name}: an enum or NamedTuple of it was defined anew since it was first compiled "
            "here, and TorchScript keeps what it compiled; restart the process, or give the interface another name"
        )
    check_fit(module, contract)
    with _lock:
        shelf = _shelves.setdefault((contract.interface.name, contract.interface.text), _Shelf(contract))
        return shelf.put(module)


def release(handle: int) -> None:
    """Withdraws what is hosted under `handle`; does nothing when it is gone already."""
    with _lock:
        shelf = _hosted.pop(handle, None)
        if shelf is not None:
            shelf.take(handle)


@dataclass
class _Shelf:
    """The Python side of one interface's table: which indices are free, and what waits in the graveyard."""

    contract: Contract
    pages: int = 0
    unused: int = 0  # the first index that was never used
    free: list[int] = field(default_factory=list)  # a heap, so that low pages fill up first
    burials: deque[float] = field(default_factory=deque)  # when each slot in the graveyard got there

    def put(self, module: torch.jit.ScriptModule) -> int:
        index = self._next_index()
        if index >> SLOT_BITS == self.pages:
            self.contract.host.open_page(self.pages)
            self.pages += 1
        handle = _next_token() << INDEX_BITS | index
        try:
            self.contract.host.put(handle, module, device_of(module))
        except RuntimeError:
            heapq.heappush(self.free, index)
            raise
        self._note_burial()
        _hosted[handle] = self
        return handle

    def take(self, handle: int) -> None:
        self.contract.host.put(handle, None, torch.device("cpu"))
        self._note_burial()
        heapq.heappush(self.free, handle & (CAPACITY - 1))

    def bury(self, now: float) -> None:
        count = 0
        while self.burials and self.burials[0] + GRACE <= now:
            self.burials.popleft()
            count += 1
        if count:
            self.contract.host.bury(count)

    def _next_index(self) -> int:
        if self.free:
            return heapq.heappop(self.free)
        if self.unused == CAPACITY:
            name = self.contract.interface.name
            raise CapacityError(
                f"{name}: this worker hosts {CAPACITY} modules of it already; withdraw some, or use another worker"
            )
        self.unused += 1
        return self.unused - 1

    def _note_burial(self) -> None:
        self.burials.append(time.monotonic())
        _sweeper.wake()


# -- handles

_serial = 0
_key = secrets.token_bytes(16)


def _next_token() -> int:
    """A token that is not given again and cannot be guessed: a serial number through a keyed permutation.

    Random numbers alone would repeat one day; a serial number alone would tell every other handle.
    """
    global _serial
    _serial += 1
    half = _TOKEN_BITS // 2
    left, right = _serial >> half, _serial & ((1 << half) - 1)
    for turn in range(4):  # a Feistel network: whatever the rounds compute, it can be undone, so no two serials meet
        digest = hashlib.blake2b(bytes([turn]) + right.to_bytes(4, "little"), key=_key, digest_size=4).digest()
        left, right = right, left ^ (int.from_bytes(digest, "little") & ((1 << half) - 1))
    return left << half | right


# -- leases


class Lease:
    """What the lease RRefs of one hosted module refer to."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __del__(self) -> None:
        _sweeper.expire(self._handle)


_STOP: Final = -1  # no handle


class _Sweeper:
    """See Note [The sweeper]."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def expire(self, handle: int) -> None:
        self._queue.put(handle)

    def stop(self) -> None:
        # A thread that is inside torch while the interpreter goes away ends the process with an abort.
        if self._thread is not None:
            self._queue.put(_STOP)
            self._thread.join()

    def wake(self) -> None:
        """Called under the lock, whenever there is a new burial."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="torchremote-sweeper", daemon=True)
            self._thread.start()
            atexit.register(self.stop)

    def _run(self) -> None:
        while True:
            with suppress(queue.Empty):
                handle = self._queue.get(timeout=GRACE / 4)
                if handle == _STOP:
                    return
                release(handle)
            with _lock:
                now = time.monotonic()
                for shelf in _shelves.values():
                    shelf.bury(now)


_sweeper = _Sweeper()

# -- served modules


@dataclass
class _Served:
    interface: Interface
    module: torch.jit.ScriptModule
    handles: dict[str, int]  # by digest: a caller's interface may be another one that the module implements, too


def serve(module: torch.nn.Module, interface: type, name: str) -> None:
    """Offers a module of this process under `name`, to `connect` from any worker, until `withdraw(name)`.

    RPC need not be running yet. The module is scripted, unless it is; the caller's object and the served one share
    their parameters.

    Args:
        module: implements `interface`; on whatever device.
        name: unique in this process.

    Raises:
        ServedNameError: `name` is taken.
        MismatchError: `module` does not implement `interface`.
    """
    contract = compile_interface(interface).contract
    offer(scripted_module(module, contract.interface), contract, name)


def offer(module: torch.jit.ScriptModule, contract: Contract, name: str) -> int:
    """`serve`, for a module that is scripted: hosts it and gives it its name, or does neither."""
    check_name(name)
    handle = host(contract, module)
    with _lock:
        # Hosted first: whoever finds the name must be able to call.
        served = _served.setdefault(name, _Served(contract.interface, module, {contract.interface.digest: handle}))
    if handle in served.handles.values():
        return handle
    release(handle)
    raise ServedNameError(
        f"{name!r}: this process serves a {served.interface.name} under that name; withdraw it, or choose another"
    )


def check_name(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise ServedNameError(f"name={name!r}: a served name is a string that is not empty")


def withdraw(name: str) -> None:
    """Ends `serve(..., name)`. Calls that are running finish; later ones raise StaleStubError.

    Raises:
        ServedNameError: nothing is served under `name` here.
    """
    with _lock:
        served = _served.pop(name, None)
        known = sorted(_served)
    if served is None:
        raise ServedNameError(f"{name!r}: not served here; served are: {', '.join(known) or 'none'}")
    for handle in served.handles.values():
        release(handle)


def served_module(name: str) -> torch.jit.ScriptModule:
    """What this process serves under `name`: for its owner's own use, such as an optimizer's.

    Raises:
        ServedNameError: nothing is served under `name` here.
    """
    with _lock:
        if name not in _served:
            raise ServedNameError(f"{name!r}: not served here; served are: {', '.join(sorted(_served)) or 'none'}")
        return _served[name].module


def withdraw_if_served(name: str, handle: int) -> None:
    """`withdraw(name)`, if that is still what is hosted under `handle`."""
    with _lock:
        served = _served.get(name)
        if served is None or handle not in served.handles.values():
            return
        del _served[name]
    for other in served.handles.values():
        release(other)


def find_served(contract: Contract, name: str) -> tuple[int, torch.jit.ScriptModule]:
    """What is served as `name`, and the handle under which it can be called through `contract`."""
    with _lock:
        served = _served.get(name)
        known = sorted(_served)
    if served is None:
        raise ServedNameError(f"{name!r}: not served by this worker; served are: {', '.join(known) or 'none'}")
    digest = contract.interface.digest
    if digest not in served.handles:
        handle = host(contract, served.module)
        with _lock:
            current = _served.get(name) is served and served.handles.setdefault(digest, handle) == handle
        if not current:
            release(handle)  # withdrawn, or connected through the same interface by another thread, meanwhile
            return find_served(contract, name)
    return served.handles[digest], served.module


def scripted_module(module: object, interface: Interface) -> torch.jit.ScriptModule:
    """`module` itself when it is scripted, or else scripted with all methods of `interface`."""
    if isinstance(module, torch.jit.ScriptModule):
        return module
    if not isinstance(module, torch.nn.Module):
        raise MismatchError(f"{interface.name}: {module!r} is not a torch.nn.Module; what is hosted has to be one")
    for method in interface.methods:
        if not callable(getattr(module, method.name, None)):
            raise MismatchError(
                f"{interface.name}.{method.name}: {type(module).__name__} has no such method; expected\n  {method}"
            )
    try:
        with COMPILING:
            return _torch.script_module(module, [method.name for method in interface.methods])
    except Exception as error:  # whatever TorchScript's compiler raises for a user's module
        raise CreationError(f"{type(module).__name__} cannot be scripted: {error}") from error
