"""Modules on their owner: hosting, names, and what happens to a module under its callers.

Calls do not come through here: see jit/table.py.

Note [Lives]
    An unnamed module lives as long as a stub of it: see leases.py. A served module has no leases and lives until it is
    withdrawn; another may take its place under its name.

Note [Whole modules]
    A module is replaced, or moved to another device, by exchanging what its handles lead to. A call that runs keeps the
    module that it began with, and the next gets the other one; no call meets with half of each, and none fails. So
    nothing of a module is changed in place: moving makes a copy.

    Stubs that were made while the module was on the CPU move no tensors, and have handles of their own. While it is on
    an accelerator, these lead to a stub of it on the owner itself, which moves what has to move: such stubs go on
    working, by way of a second message, for which torch takes the owner's GIL; those that are made then call directly.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field

import torch
import torch.distributed.rpc as rpc

from .. import _torch
from ..caller.calls import Route
from ..caller.stub import make_stub
from ..errors import CreationError, InterfaceError, MismatchError, ServedNameError, StaleStubError
from ..jit import Contract, Interface, Placement, compile_interface
from ..jit.script.cache import COMPILING
from ..link.places import device_of
from . import leases
from .implements import check_fit
from .tables import LOCK, shelf_for, shelf_of

_Kind = tuple[str, bool]  # an interface's scope in TorchScript, and whether stubs move tensors
_by_handle: dict[int, Hosted] = {}
_by_name: dict[str, Hosted] = {}
_exchanging = threading.Lock()  # one at a time, so that each sees what the last one made


@dataclass(eq=False)
class Hosted:
    """A module that this process hosts. All but `name` is changed under LOCK."""

    module: torch.jit.ScriptModule
    device: torch.device
    interface: Interface  # that it was hosted with
    name: str | None
    handles: dict[_Kind, int] = field(default_factory=dict)
    exchanged: int = 0  # how many modules there were before this one
    gone: bool = False


def host(contract: Contract, module: torch.jit.ScriptModule, device: torch.device) -> int:
    """Makes `module` callable on `device` under a new handle, until `release`. Raises what `reach` raises."""
    return reach(Hosted(module, device, contract.interface, None), contract)[0]


def reach(hosted: Hosted, contract: Contract) -> tuple[int, torch.device]:
    """The handle under which new stubs of an interface call a module, and the device that it was on then.

    Raises:
        MismatchError: the module does not implement the interface.
        CapacityError: this worker hosts as many modules of the interface as a table holds.
        InterfaceError: a class of the interface was defined anew in this process.
        StaleStubError: it is not hosted any more.
    """
    if not contract.hosts:
        raise InterfaceError(
            f"{contract.interface.name}: an enum or NamedTuple of it was defined anew since it was first compiled "
            "here, and TorchScript keeps what it compiled; restart the process, or give the interface another name"
        )
    fits = None
    while True:
        with LOCK:
            if hosted.gone:
                raise _stale()
            module, device = hosted.module, hosted.device
            kind = (contract.scope, _is_accelerator(device))
            if kind not in hosted.handles and fits is module:
                handle = shelf_for(contract).put(module, device)
                _add(hosted, kind, handle)
            if kind in hosted.handles:
                return hosted.handles[kind], device
        check_fit(module, contract)
        _prepare(contract, device)
        fits = module


def _prepare(contract: Contract, device: torch.device) -> None:
    """Compiles what stubs of a module on `device` call, before there is one."""
    if _is_accelerator(device):
        for placement in (Placement.STAGED, Placement.MAPPED):
            contract.connect(placement)


def _add(hosted: Hosted, kind: _Kind, handle: int) -> None:
    for other in hosted.handles.values():
        leases.lend_alike(handle, other)
    hosted.handles[kind] = handle
    _by_handle[handle] = hosted


def lend(handle: int) -> None:
    """Has what is hosted under `handle` live as long as its leases."""
    leases.lend(handle, release)


def release(handle: int) -> None:
    """Withdraws what is hosted under `handle`; does nothing when it is gone already."""
    with LOCK:
        hosted = _by_handle.get(handle)
        if hosted is not None:
            _remove(hosted)


def release_all(handles: list[int]) -> None:
    for handle in handles:
        release(handle)


def _remove(hosted: Hosted) -> None:
    hosted.gone = True
    if hosted.name is not None and _by_name.get(hosted.name) is hosted:
        del _by_name[hosted.name]
    for handle in hosted.handles.values():
        del _by_handle[handle]
        shelf_of(handle).take(handle)
        leases.forget(handle)


def hosted_at(handle: int) -> tuple[Hosted, Contract]:
    """What is hosted under `handle`, and the interface that it is called through there.

    Raises:
        StaleStubError: nothing is.
    """
    with LOCK:
        hosted = _by_handle.get(handle)
        if hosted is None:
            raise _stale()
        return hosted, shelf_of(handle).contract


def _stale() -> StaleStubError:
    return StaleStubError("its module was withdrawn; create or connect again")


def _is_accelerator(device: torch.device) -> bool:
    return device.type != "cpu"


# -- another module in the place of one


def exchange(
    hosted: Hosted,
    module: torch.jit.ScriptModule,
    device: torch.device,
    instead_of: torch.jit.ScriptModule | None = None,
) -> bool:
    """Puts `module` in the place of the one that is hosted, or raises and changes nothing: see Note [Whole modules].

    Args:
        device: that `module` is on.
        instead_of: does nothing, and returns False, unless this is what is hosted.

    Raises:
        MismatchError: it does not implement every interface that there are stubs of.
        CapacityError: there is no slot for a second handle of the kind that accelerators need.
        StaleStubError: what was hosted is gone.
    """
    with _exchanging:
        if instead_of is not None and hosted.module is not instead_of:
            return False
        while not _try_exchange(hosted, module, device):
            pass
    return True


def _try_exchange(hosted: Hosted, module: torch.jit.ScriptModule, device: torch.device) -> bool:
    """False: a handle was added meanwhile, and nothing was changed."""
    with LOCK:
        if hosted.gone:
            raise _stale()
        handles = dict(hosted.handles)
        contracts = {kind: shelf_of(handle).contract for kind, handle in handles.items()}
    for contract in contracts.values():
        check_fit(module, contract)
        _prepare(contract, device)
    lead_to = dict.fromkeys(handles.values(), (module, device))
    added: dict[_Kind, int] = {}
    done = False
    try:
        if _is_accelerator(device) and _torch.rpc_running():  # without RPC, there are no stubs yet
            for (scope, moves), handle in handles.items():
                if not moves:
                    contract = contracts[scope, moves]
                    if (scope, True) not in handles:
                        with LOCK:
                            added[scope, True] = shelf_for(contract).put(module, device)
                    direct = handles.get((scope, True)) or added[scope, True]
                    lead_to[handle] = _forwarder(contract, direct, device), torch.device("cpu")
        with LOCK:
            if not hosted.gone and hosted.handles == handles:
                for kind, handle in added.items():
                    _add(hosted, kind, handle)
                for handle, what in lead_to.items():
                    shelf_of(handle).exchange(handle, *what)
                hosted.module, hosted.device = module, device
                hosted.exchanged += 1
                done = True
    finally:
        if not done:
            with LOCK:
                for handle in added.values():
                    shelf_of(handle).take(handle)
    return done


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
    check_name(name)
    contract = compile_interface(interface).contract
    scripted = scripted_module(module, contract.interface)
    while True:
        with LOCK:
            taken = _by_name.get(name) if replace else None
        try:
            if taken is None:
                offer(scripted, device_of(scripted), contract, name)
            else:
                check_fit(scripted, contract)
                exchange(taken, scripted, device_of(scripted))
            return
        except (ServedNameError, StaleStubError):  # another thread took the name, or withdrew what had it
            if not replace:
                raise


def offer(module: torch.jit.ScriptModule, device: torch.device, contract: Contract, name: str) -> int:
    """`serve`, for a module that is scripted: hosts it and gives it its name, or does neither."""
    check_name(name)
    hosted = Hosted(module, device, contract.interface, name)
    handle, _ = reach(hosted, contract)
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
    with LOCK:
        _remove(_served(name))


def served_module(name: str) -> torch.jit.ScriptModule:
    """What this process serves under `name`: for its owner's own use, such as an optimizer's.

    Raises:
        ServedNameError: nothing is served under `name` here.
    """
    with LOCK:
        return _served(name).module


def find_served(contract: Contract, name: str) -> tuple[int, torch.device]:
    """The handle for stubs of an interface of what is served as `name`, and its device. Raises as `reach`, and
    ServedNameError."""
    while True:
        with LOCK:
            hosted = _served(name)
        with suppress(StaleStubError):  # withdrawn meanwhile: by now, the name may be another's
            return reach(hosted, contract)


def _served(name: str) -> Hosted:
    hosted = _by_name.get(name)
    if hosted is None:
        raise ServedNameError(
            f"{name!r}: not served by this worker; served are: {', '.join(sorted(_by_name)) or 'none'}"
        )
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
