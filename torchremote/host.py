"""Modules on their owner: hosting, names, and what happens to a module under its callers.

Calls do not come through here: see jit/table.py.

Note [Lives]
    An unnamed module lives as long as a stub of it: see leases.py. A served module has no leases and lives until it is
    withdrawn; another may take its place under its name.

Note [Whole modules]
    A module is replaced, or moved to another device, by exchanging what its handles lead to. A call that runs keeps the
    module that it began with, and the next gets the other one; no call meets with half of each, and none fails. So
    nothing of a module is changed in place: moving makes a copy.

    A stub of a module on the CPU moves nothing. When the module leaves the CPU, the handles that such stubs have are
    made to lead to a stub of it on the owner itself, which moves what has to move. They go on working, by way of a
    second message, and stubs that are made from then on call directly.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.distributed.rpc as rpc

from . import leases
from .calls import Route
from .errors import CreationError, InterfaceError, MismatchError, ServedNameError, StaleStubError
from .fit import check_fit
from .jit import Contract, Interface, Placement, _torch, compile_interface
from .jit.cache import COMPILING
from .shelves import LOCK, shelf_for, shelf_of
from .stub import make_stub
from .workers import device_of

_by_handle: dict[int, Hosted] = {}
_by_name: dict[str, Hosted] = {}


@dataclass(eq=False)
class Hosted:
    """A module that this process hosts, under a handle for every interface that it is called through."""

    module: torch.jit.ScriptModule
    interface: Interface  # that it was hosted with
    name: str | None
    handles: dict[str, int] = field(default_factory=dict)  # what new stubs get, by the digest of their interface
    forwarding: list[int] = field(default_factory=list)  # what older stubs have: see Note [Whole modules]


def host(contract: Contract, module: torch.jit.ScriptModule) -> int:
    """Makes `module` callable under a new handle, until `release`.

    Raises:
        MismatchError: it does not implement the interface.
        CapacityError: this worker hosts as many modules of the interface as a table holds.
        InterfaceError: a class of the interface was defined anew in this process.
    """
    return _host(contract, Hosted(module, contract.interface, None))


def _host(contract: Contract, hosted: Hosted) -> int:
    if not contract.hosts:
        raise InterfaceError(
            f"{contract.interface.name}: an enum or NamedTuple of it was defined anew since it was first compiled "
            "here, and TorchScript keeps what it compiled; restart the process, or give the interface another name"
        )
    check_fit(hosted.module, contract)
    with LOCK:
        handle = shelf_for(contract).put(hosted.module)
        hosted.handles[contract.interface.digest] = handle
        _by_handle[handle] = hosted
    return handle


def lend(handle: int) -> None:
    """Has what is hosted under `handle` live as long as its leases."""
    leases.lend(handle, release)


def release(handle: int) -> None:
    """Withdraws what is hosted under `handle`; does nothing when it is gone already."""
    with LOCK:
        hosted = _by_handle.get(handle)
        if hosted is not None:
            _remove(hosted)


def _remove(hosted: Hosted) -> None:
    for handle in (*hosted.handles.values(), *hosted.forwarding):
        del _by_handle[handle]
        shelf_of(handle).take(handle)
        leases.forget(handle)


def hosted_at(handle: int) -> Hosted:
    """
    Raises:
        StaleStubError: nothing is hosted under `handle`.
    """
    with LOCK:
        hosted = _by_handle.get(handle)
    if hosted is None:
        raise StaleStubError("its module was withdrawn; create or connect again")
    return hosted


def exchange(hosted: Hosted, module: torch.jit.ScriptModule) -> None:
    """Puts `module` in the place of the one that is hosted: see Note [Whole modules].

    Raises:
        MismatchError: it does not implement every interface that there are stubs of; nothing has changed.
        StaleStubError: what was hosted is gone.
    """
    with LOCK:
        contracts = {handle: shelf_of(handle).contract for handle in hosted.handles.values()}
    for contract in contracts.values():
        check_fit(module, contract)
    leaves_cpu = device_of(hosted.module).type == "cpu" != device_of(module).type
    forwards = leaves_cpu and _torch.rpc_running()  # without RPC, there are no stubs to forward
    with LOCK:
        if contracts.keys() != set(hosted.handles.values()) or not contracts.keys() <= _by_handle.keys():
            raise StaleStubError("its module was withdrawn, or replaced by another thread, meanwhile")
        for handle, contract in contracts.items():
            if forwards:
                direct = shelf_for(contract).put(module)
                hosted.handles[contract.interface.digest] = direct
                hosted.forwarding.append(handle)
                _by_handle[direct] = hosted
                leases.lend_alike(direct, handle)
                shelf_of(handle).exchange(handle, _forwarder(contract, direct, device_of(module)))
            else:
                shelf_of(handle).exchange(handle, module)
        hosted.module = module


def _forwarder(contract: Contract, handle: int, device: torch.device) -> torch.jit.ScriptModule:
    here = rpc.get_worker_info().name
    route = Route(here, None, str(device), Placement.STAGED, handle, (), lease=None, timeout=0.0)
    forwarder: torch.jit.ScriptModule = make_stub(compile_interface(contract.interface), route)
    return forwarder


# -- served modules


def serve(module: torch.nn.Module, interface: type, name: str, *, replace: bool = False) -> None:
    """Offers a module of this process under `name`, to `connect` from any worker, until `withdraw(name)`.

    RPC need not be running yet. The module is scripted, unless it is; the caller's object and the served one share
    their parameters.

    Args:
        module: implements `interface`; on whatever device.
        name: unique in this process.
        replace: puts `module` in the place of what is served under `name`, if anything is. Stubs stay connected: each
            call gets the old module or the new one, whole, and none fails.

    Raises:
        ServedNameError: `name` is taken, and `replace` is not set.
        MismatchError: `module` does not implement `interface`; or, when it replaces another, every interface that
            this one is called through.
    """
    contract = compile_interface(interface).contract
    scripted = scripted_module(module, contract.interface)
    with LOCK:
        taken = _by_name.get(name) if replace else None
    if taken is None:
        offer(scripted, contract, name)
        return
    check_fit(scripted, contract)
    exchange(taken, scripted)


def offer(module: torch.jit.ScriptModule, contract: Contract, name: str) -> int:
    """`serve`, for a module that is scripted: hosts it and gives it its name, or does neither."""
    check_name(name)
    hosted = Hosted(module, contract.interface, name)
    handle = _host(contract, hosted)
    with LOCK:
        # Hosted first: whoever finds the name must be able to call.
        first = _by_name.setdefault(name, hosted)
    if first is hosted:
        return handle
    release(handle)
    raise ServedNameError(
        f"{name!r}: this process serves a {first.interface.name} under that name; withdraw it, choose another, or "
        "serve with replace=True"
    )


def check_name(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise ServedNameError(f"name={name!r}: a served name is a string that is not empty")


def withdraw(name: str) -> None:
    """Ends `serve(..., name)`. Calls that are running finish; later ones raise StaleStubError.

    Raises:
        ServedNameError: nothing is served under `name` here.
    """
    _withdraw(_served(name))


def withdraw_if_served(name: str, handle: int) -> None:
    """`withdraw(name)`, if that is still what is hosted under `handle`."""
    with LOCK:
        hosted = _by_name.get(name)
    if hosted is not None and handle in hosted.handles.values():
        _withdraw(hosted)


def _withdraw(hosted: Hosted) -> None:
    with LOCK:
        if hosted.name is not None and _by_name.get(hosted.name) is hosted:
            del _by_name[hosted.name]
            _remove(hosted)


def served_module(name: str) -> torch.jit.ScriptModule:
    """What this process serves under `name`: for its owner's own use, such as an optimizer's.

    Raises:
        ServedNameError: nothing is served under `name` here.
    """
    return _served(name).module


def find_served(contract: Contract, name: str) -> tuple[int, torch.jit.ScriptModule]:
    """What is served as `name`, and the handle under which it can be called through `contract`."""
    while True:
        hosted = _served(name)
        digest = contract.interface.digest
        with LOCK:
            handle = hosted.handles.get(digest) if _by_name.get(name) is hosted else None
        if handle is not None:
            return handle, hosted.module
        _add_handle(contract, hosted)


def _add_handle(contract: Contract, hosted: Hosted) -> None:
    """Makes `hosted` callable through another interface that it implements, unless it is by now, or is gone."""
    module = hosted.module
    apart = Hosted(module, contract.interface, hosted.name)
    handle = _host(contract, apart)
    with LOCK:
        if (
            _by_name.get(hosted.name or "") is hosted
            and hosted.module is module
            and hosted.handles.setdefault(contract.interface.digest, handle) == handle
        ):
            _by_handle[handle] = hosted
            return
    release(handle)  # withdrawn, exchanged, or connected through the same interface by another thread, meanwhile


def _served(name: str) -> Hosted:
    with LOCK:
        hosted = _by_name.get(name)
        known = sorted(_by_name)
    if hosted is None:
        raise ServedNameError(f"{name!r}: not served by this worker; served are: {', '.join(known) or 'none'}")
    return hosted


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
