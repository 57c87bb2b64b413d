"""Asks torch's RPC agent, and changes how its pickler sends an object."""

from __future__ import annotations

import copyreg
import ctypes
import os
import pickle
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed.rpc as rpc
from torch.distributed.rpc import api as _api

from ..locks import new_lock
from .compile import compile_function
from .frontend import Resolver, parsed

if TYPE_CHECKING:
    from torch._C._distributed_rpc import PyRRef, WorkerInfo
else:  # present only where torch is built with RPC
    from torch.distributed.rpc import PyRRef, WorkerInfo

_C: Any = torch._C  # its type stubs lack many names
_collect_all: Any = _C._collect_all


RemoteDevice = torch.distributed._remote_device
"""Parses a `remote_device` as torch's RemoteModule does, with the same errors."""


class ReferenceTypes:
    """Compares the types of RRefs with a declared one.

    Args:
        declared: the declared type, as in "RRef[Tensor]".
        resolve: finds the names in it.
    """

    def __init__(self, declared: str, resolve: Resolver) -> None:
        # TorchScript takes any RRef for one of the declared type, and returns it as a bare one. That has its type.
        definition = parsed(f"def bare(reference: {declared}) -> {declared}:\n  return reference")
        self._bare = compile_function("__torch__.torchremote.bare", definition, resolve)
        bare: Any = self._bare
        self._declared: Any = bare.schema.arguments[0].type

    def fits(self, reference: PyRRef[Any]) -> bool:
        """Says whether what `reference` refers to is of the declared type."""
        return bool(self._type_of(reference).getElementType().isSubtypeOf(self._declared.getElementType()))

    def shown(self, reference: PyRRef[Any]) -> str:
        """Writes the type of an RRef, as in "RRef[int]". It is "RRef[PyObject]" if it was made for a Python object."""
        return str(self._type_of(reference).annotation_str)

    def _type_of(self, reference: PyRRef[Any]) -> Any:
        return _C._jit_try_infer_type(self._bare(reference)).type()


def is_recording_calls() -> bool:
    """Says whether messages that this thread sends become part of a context of distributed autograd, with gradients."""
    if not torch.is_grad_enabled():
        return False
    try:
        _C._distributed_autograd._current_context()
    except RuntimeError:
        return False
    return True


def gate_of(future: Any) -> Any:
    """Makes a Future that torch completes when `future` is complete, with its error or a list of it, and no Python.

    Unlike `future`, it may be completed by somebody else before: torch asks whether it is.
    """
    gate: Any = _collect_all([future])  # torch.futures.collect_all, without the time that it takes for annotations
    gate._set_unwrap_func(bool)  # torch's own one would make another Python object of the value
    return gate


def creation_of(reference: Any) -> Any:
    """Returns the Future of the creation of what an RRef refers to. None for what is no RRef."""
    return reference._get_future() if isinstance(reference, PyRRef) else None


# Methods of Future in C++. Those of its Python class add nothing to them but a call.
begin_future: Any = torch._C.Future.__init__
is_done: Any = torch._C.Future.done
future_value: Any = torch._C.Future.value
complete: Any = torch._C.Future.set_result
call_back: Any = torch._C.Future.add_done_callback
check_on_unwrap: Any = torch._C.Future._set_unwrap_func
"""Makes a Future call a function with its value in every `wait`, which raises what that function raises."""


def keep_until_done(future: Any, kept: object) -> None:
    """Keeps `kept` until a Future is complete."""
    when_done(future, partial(_let_go, kept))


def _let_go(kept: object, future: object) -> None:
    """Does nothing: as a bound callback, it keeps `kept` until then."""


def when_done(future: Any, do: Callable[[Any], None]) -> None:
    """Calls `do` with a Future, once, when that is complete. If it is, does so at once, and raises what `do` raises.

    Note [Callbacks and signals]
        torch calls the callback of a complete Future at once, in the thread that adds it, and only logs what it raises.
        In the main thread, Python runs the handlers of signals also where it enters a function, so Ctrl-C would end a
        callback that has done nothing yet: nobody would see KeyboardInterrupt, and whoever waits for what the callback
        completes would wait for ever. So a complete Future gets no callback: `do` runs here. A Future may still become
        complete between the question and the adding. So a callback does nothing before `do` is in `once`, which is
        after the adding. Whoever takes it from there calls it: the callback, or this function.
    """
    once: list[Callable[[Any], None]] = []
    if not is_done(future):
        call_back(future, partial(_take, once))
    once.append(do)
    if is_done(future):
        if torch.cuda.is_initialized():
            with suppress(Exception):  # `do` sees it, too
                future.wait()  # orders the streams of this thread after the value, as torch does for callbacks
        _take(once, future)


def _take(once: list[Callable[[Any], None]], future: Any) -> None:
    try:
        do = once.pop()  # atomic under the GIL
    except IndexError:
        return
    do(future)


_reducers_lock = new_lock()


def send_as(cls: type[Any], reduce: Callable[[Any], str | tuple[Any, ...]]) -> None:
    """Makes RPC's pickler call `reduce` for objects of exactly `cls`. `reduce` returns the same as `__reduce__`."""
    # torch's own function keeps the first `reduce` of a class, and torch.distributed.nn sets one for scripted modules.
    # The dict is exchanged, not changed, because other threads may be reading it.
    pickler = _api._internal_rpc_pickler
    with _reducers_lock:
        pickler._class_reducer_dict = {**pickler._class_reducer_dict, cls: reduce}


class _Nowhere:
    """Takes what a pickler writes, and keeps nothing."""

    def write(self, written: Any) -> int:
        return len(written)


def tensors_pickled(value: object) -> list[torch.Tensor]:
    """Returns the tensors that RPC's pickler would meet in `value`. Raises what pickling `value` raises.

    References and what has a reducer of its own, such as a stub, are left out: to pickle those is to send them.
    """
    tensors: list[torch.Tensor] = []

    def meet(tensor: torch.Tensor) -> tuple[Any, ...]:
        tensors.append(tensor)
        return int, ()

    left_out = {cls: lambda _: (int, ()) for cls in (PyRRef, rpc.RRef, *_api._internal_rpc_pickler._class_reducer_dict)}
    pickler: Any = pickle.Pickler(_Nowhere(), protocol=5, buffer_callback=lambda _: None)
    pickler.dispatch_table = {**copyreg.dispatch_table, **left_out, torch.Tensor: meet}
    pickler.dump(value)
    return tensors


# If a message were the last to hold a tensor of Python's, whoever drops the message would take the GIL: see
# caller/messages/kept_tensors.py.
_ZERO = torch.zeros((), device="cpu")


def ask_for_a_sign(worker: str | int, **limit: float) -> torch.futures.Future[Any]:
    """Sends a worker a question whose answer needs no Python there. Returns the Future of the answer."""
    sign: torch.futures.Future[Any] = rpc.rpc_async(worker, torch.neg, (_ZERO,), **limit)
    return sign


def rpc_sends() -> bool:
    """Says whether this process can send messages. RPC that is just ending cannot, and it is running still."""
    own = own_id()
    try:
        if own is not None:
            ask_for_a_sign(own)  # torch says it to whoever sends, and in no other way
    except RuntimeError:
        return False
    return own is not None


def rpc_running() -> bool:
    return bool(_api._is_current_rpc_agent_set())


_was_forked_from_rpc = False


def was_forked_from_rpc() -> bool:
    """Says whether this process was forked from one in which RPC ran. It has the agent, but none of its threads."""
    return _was_forked_from_rpc


def _after_fork() -> None:
    # Without an agent, torch raises at once where it would wait for ever: for answers, also in scripted models, and for
    # threads to end, where the agent is destroyed. So it never is. Nor is what holds RRefs: see os_fork.py.
    global _was_forked_from_rpc
    if rpc_running():
        _was_forked_from_rpc = True
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(_api._get_current_rpc_agent()))
        _api._reset_current_rpc_agent()


os.register_at_fork(after_in_child=_after_fork)


def own_id() -> int | None:
    """Returns this worker's id, or None if RPC is not running."""
    try:
        return int(_api._get_current_rpc_agent().get_worker_info().id)
    except RuntimeError:
        return None


def own_name() -> str:
    """Returns this worker's name, or "" if RPC is not running."""
    try:
        return str(_api._get_current_rpc_agent().get_worker_info().name)
    except RuntimeError:
        return ""


_workers_lock = new_lock()  # torch takes none where it goes through its list of workers


def worker_infos() -> list[WorkerInfo]:
    """Lists the workers of this process's group."""
    with _workers_lock:
        return list(_api._get_current_rpc_agent().get_worker_infos())


def update_workers(agent: Any, *update: Any) -> None:
    """Changes an agent's list of workers. `update`: the arguments of its `_update_group_membership`."""
    with _workers_lock:
        agent._update_group_membership(*update)


def mapped_devices(worker: WorkerInfo) -> list[torch.device]:
    """Lists the devices, beside the CPU, from which this process can send tensors to `worker`."""
    mapped = _api._get_current_rpc_agent()._get_device_map(worker)
    return [device for device in mapped if device.type != "cpu"]


def threads_of_rpc() -> tuple[int, int]:
    """Counts the threads that run calls and callbacks in this process, and those of them that are idle."""
    try:
        metrics = _api._get_current_rpc_agent().get_metrics()
    except RuntimeError:  # RPC has ended
        return 0, 0
    return int(metrics["agent.thread_pool_size"]), int(metrics["agent.num_idle_threads"])


def running_calls() -> int:
    """Counts the calls that this worker runs for others, those that wait for their turn included."""
    try:
        metrics = _api._get_current_rpc_agent().get_metrics()
    except RuntimeError:  # RPC has ended
        return 0
    # It has those that wait: torch also counts these alone, as server_active_async_calls.
    return int(metrics["agent.server_active_calls"])
