"""Creates modules on other workers, and connects to served ones: the caller's side of the control plane.

Creation is one RPC in Python. The stub is made from the answer, so a stub exists only once its owner can answer calls.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
import torch.distributed.rpc as rpc

from .. import _torch
from .._torch import PyRRef
from ..errors import ArgumentError, CallTimeoutError, CreationError, MismatchError, WireError
from ..jit import CompiledInterface, compile_interface
from ..link.failures import explain
from ..link.places import Place, find_place, find_worker
from ..link.protocol import SPOKEN
from ..link.route import Route
from ..owner import modules
from ..owner.create import Created, CreateRequest, Refusal, cancel_here, connect_here, create_here, referenced
from .exchange import send, settle
from .stub import check_timeout, make_stub


def create(
    where: str,
    interface: type,
    module_cls: Callable[..., torch.nn.Module] | torch.jit.ScriptModule,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    timeout: float | None = None,
) -> Any:
    """Builds a module on another worker, scripts it there, and returns a scripted stub of it.

    Args:
        where: "worker", "worker/device", "rank:N" or "rank:N/device". Without a device, the module is on the CPU.
        interface: a class of annotated methods. The module implements it.
        module_cls: a callable that the owner can import and that returns an nn.Module or a ScriptModule. Or a
            ScriptModule: it is sent, and the owner hosts a copy.
        args, kwargs: the arguments with which the owner calls `module_cls`.
        name: serves the module under this name until `withdraw`. An unnamed module goes with its last stub.
        timeout: seconds that each call of the stub may take; 0 for no limit, None for RPC's default. Creation itself
            has RPC's default.

    Returns:
        The stub. It has the methods of `interface`, and `<m>_async`, `<m>_many` and `<m>_many_async` for each `<m>`.

    Raises:
        NotInitializedError: RPC is not running in this process.
        PlaceError: there is no such worker or device.
        InterfaceError: `interface` has a signature that cannot cross.
        ArgumentError: `args` is no tuple or list, or `kwargs` no mapping from names.
        CreationError: `module_cls` raised, or returned something that cannot be scripted. Nothing is left on the owner.
        MismatchError: the module does not implement `interface`. The message shows both signatures.
        ServedNameError: `name` is taken on the owner.
        CapacityError: the owner hosts as many modules of `interface` as a table holds.
        WireError: the owner is lost, or does not answer in time.
        ValueError: `timeout` is no number of seconds.

    In a group with a worker "owner":

    >>> class Layer:
    ...     def forward(self, input: torch.Tensor) -> torch.Tensor: ...
    >>> layer = create("owner", Layer, torch.nn.Linear, args=(4, 2))
    >>> layer(torch.ones(3, 4)).shape
    torch.Size([3, 2])
    """
    return create_async(where, interface, module_cls, args, kwargs, name=name, timeout=timeout).wait()


def create_async(
    where: str,
    interface: type,
    module_cls: Callable[..., torch.nn.Module] | torch.jit.ScriptModule,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    timeout: float | None = None,
) -> Pending:
    """Starts to create a module on another worker, and does not wait for it.

    Args:
        where, interface, module_cls, args, kwargs, name, timeout: as for `create`.

    Returns:
        A `Pending`. Its `.wait()` returns the stub.

    Raises:
        As `create`. Errors that the caller can see are raised at once: a bad place or interface, or something that
        cannot be sent. Errors of the owner are raised by `.wait()`.

    In a group with a worker "owner":

    >>> class Layer:
    ...     def forward(self, input: torch.Tensor) -> torch.Tensor: ...
    >>> pending = create_async("owner", Layer, torch.nn.Linear, args=(4, 2))
    >>> layer = pending.wait()
    """
    compiled = compile_interface(interface)
    place = find_place(where)
    timeout = check_timeout(timeout)
    arguments = checked_arguments(module_cls, args, kwargs)
    request = request_for(place, compiled, checked(module_cls), *arguments, name=name)
    return _create(place, compiled, request, timeout)


def adopt(rref: PyRRef[Any], compiled: CompiledInterface, device: str) -> Pending:
    """Asks for a stub of the module that `rref` refers to. The module stays where it is.

    Args:
        device: the module's device, if the module has no tensors that show it.
    """
    place = Place(rref.owner(), device)
    return _create(place, compiled, request_for(place, compiled, referenced, (rref,), {}, places=False), timeout=None)


def _create(place: Place, compiled: CompiledInterface, request: CreateRequest, timeout: float | None) -> Pending:
    """Sends one request."""
    answer = send_requests(compiled, place, [request])
    return Pending(answer, compiled, place, request.name, timeout, request.ticket)


def request_for(
    place: Place,
    compiled: CompiledInterface,
    make: Callable[..., torch.nn.Module] | torch.jit.ScriptModule,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    places: bool = True,
    name: str | None = None,
) -> CreateRequest:
    """Makes the request for one module, with a new ticket. The arguments are the fields of `CreateRequest`."""
    return CreateRequest(
        compiled.interface.name,
        compiled.interface.text,
        make,
        args,
        kwargs,
        place.device or "cpu",
        places,
        name,
        ticket=secrets.token_hex(16),
        caller=rpc.get_worker_info().id,
    )


def connect(where: str, interface: type, name: str, *, timeout: float | None = None) -> Any:
    """Connects to the module that a worker serves under `name`.

    Args:
        where: "worker" or "rank:N". No device is given: a served module stays on its device.
        interface: a class of annotated methods. The module implements it. It may have fewer methods than the interface
            with which the module is served, and other defaults.
        name: the name that was given to `serve` or to `create(..., name=)`.
        timeout: seconds that each call of the stub may take; 0 for no limit, None for RPC's default.

    Returns:
        A stub of the module, as from `create`.

    Raises:
        NotInitializedError: RPC is not running in this process.
        PlaceError: there is no such worker, or `where` has a device.
        InterfaceError: `interface` has a signature that cannot cross.
        ServedNameError: the worker serves nothing under `name`.
        MismatchError: the module does not implement `interface`.
        WireError: the worker is lost, or does not answer in time.
        ValueError: `timeout` is no number of seconds.

    One worker creates a module with a name:

    >>> class Layer:
    ...     def forward(self, input: torch.Tensor) -> torch.Tensor: ...
    >>> first = create("owner", Layer, torch.nn.Linear, args=(4, 2), name="layer")

    Any other worker can connect to it:

    >>> layer = connect("owner", Layer, "layer")
    >>> layer(torch.ones(3, 4)).shape
    torch.Size([3, 2])

    The owner withdraws the name:

    >>> import torchremote
    >>> rpc.rpc_sync("owner", torchremote.withdraw, ("layer",))
    """
    compiled = compile_interface(interface)
    modules.check_name(name)
    return find_served(find_worker(where), compiled, name, check_timeout(timeout)).wait()


def find_served(place: Place, compiled: CompiledInterface, name: str, timeout: float | None) -> Pending:
    """Asks a worker for the module that it serves under `name`, and does not wait for the answer."""
    answer = _ask(compiled, place, connect_here, compiled.interface.name, compiled.interface.text, name)
    return Pending(answer, compiled, place, name, timeout, ticket=None)


def send_requests(compiled: CompiledInterface, place: Place, requests: list[CreateRequest]) -> Any:
    """Asks a worker for modules in one message. Returns the Future of its answers."""
    return _ask(compiled, place, create_here, [vars(request) for request in requests])


def _ask(compiled: CompiledInterface, place: Place, function: Callable[..., Any], *args: Any) -> Any:
    """Sends a request of the control plane. Returns the Future of the answer."""

    def failing(error: Exception) -> CreationError:
        return CreationError(
            f"{compiled.interface.name} on {place.worker.name}: cannot be sent: {error}; "
            "what is sent must be importable by the owner"
        )

    # Pickling may raise anything.
    return send(rpc.rpc_async, (place.worker, function, (*SPOKEN, *args)), {}, failing, catches=(Exception,))


class Pending:
    """A stub that is being created, as `create_async` returns it.

    In a group with a worker "owner":

    >>> class Layer:
    ...     def forward(self, input: torch.Tensor) -> torch.Tensor: ...
    >>> pending = create_async("owner", Layer, torch.nn.Linear, args=(4, 2))
    >>> layer = pending.wait()
    >>> pending.done()
    True
    """

    def __init__(
        self,
        answer: torch.futures.Future[Any],
        compiled: CompiledInterface,
        place: Place,
        name: str | None,
        timeout: float | None,
        ticket: str | None,
        number: int = 0,
    ) -> None:
        """Takes over the answer to a message.

        Args:
            answer: the Future of the list of answers to one message.
            ticket: cancels the message. None if the message creates nothing, or if another Pending has its ticket.
            number: the position, in that list, of the answer for this stub.
        """
        self._compiled = compiled
        self._place = place
        self._name = name
        self._timeout = timeout
        self._ticket = ticket
        self._number = number
        self._answer = answer
        self._stub: Any = None
        self._lock = threading.Lock()

    def done(self) -> bool:
        """Says whether the owner has answered, so that `wait` does not block.

        Returns:
            True: `wait` returns or raises at once.

        >>> pending = create_async("owner", Layer, torch.nn.Linear, args=(4, 2))
        >>> layer = pending.wait()
        >>> pending.done()
        True
        """
        return bool(self._answer.done())

    def wait(self) -> Any:
        """Waits for the owner's answer, and returns the stub.

        Returns:
            The stub. Every call returns the same one.

        Raises:
            CreationError: the owner could not create the module.
            MismatchError: the module does not implement the interface.
            ServedNameError: the name is taken on the owner.
            WireError: the owner is lost, or does not answer in time.

        >>> pending = create_async("owner", Layer, torch.nn.Linear, args=(4, 2))
        >>> layer = pending.wait()
        >>> layer is pending.wait()
        True
        """
        with self._lock:
            if self._stub is None:
                self._stub = make_stub(self._compiled, self.route())
            return self._stub

    def route(self) -> Route:
        """Waits for the owner's answer, and returns the route to the module. It makes no stub."""
        # The owner's own functions answer with a refusal. torch may raise anything.
        answers: list[Created | Refusal] = settle(self._answer, None, self._failure, catches=(Exception,))
        answer = answers[self._number]
        if isinstance(answer, Refusal):
            raise answer.error(f"{self._where}: {answer.message}")
        devices = tuple(_torch.mapped_devices(self._place.worker))
        worker = self._place.worker.name
        return Route(worker, self._name, answer.device, answer.handle, devices, answer.lease, self._timeout)

    @property
    def _where(self) -> str:
        return f"{self._compiled.interface.name} on {self._place.worker.name}"

    def _failure(self, error: Exception) -> Exception:
        """Cancels the creation, and makes the error to raise for one of torch's."""
        self._cancel()
        failure = explain(error, self._compiled.interface.name, self._place.worker.name)
        if isinstance(failure, CallTimeoutError):
            return CallTimeoutError(
                f"{self._where}: not created within RPC's default timeout; raise rpc_timeout in init_rpc's options"
            )
        if isinstance(failure, WireError):
            return failure
        return CreationError(f"{self._where}: {error}; what is sent must be importable by the owner")

    def _cancel(self) -> None:
        """Tells the owner that nobody waits for the module."""
        # The owner may still be building the module. Nobody waits for this message: the owner may be gone.
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            with suppress(RuntimeError):  # the worker is lost, and its modules with it
                rpc.rpc_async(self._place.worker, cancel_here, (ticket,))


def checked_arguments(module_cls: object, args: object, kwargs: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns `args` and `kwargs` as a tuple and a dict, or raises ArgumentError."""
    if not isinstance(args, (tuple, list)):
        raise ArgumentError(f"args={args!r}: not a tuple; one argument is written args=(value,)")
    if kwargs is not None and not (isinstance(kwargs, Mapping) and all(isinstance(name, str) for name in kwargs)):
        raise ArgumentError(f"kwargs={kwargs!r}: not a mapping from names to values")
    if isinstance(module_cls, torch.jit.ScriptModule) and (args or kwargs):
        raise ArgumentError("module_cls: a ScriptModule is sent as it is, and takes no args or kwargs")
    return tuple(args), dict(kwargs or {})


def checked(module_cls: object) -> Callable[..., torch.nn.Module] | torch.jit.ScriptModule:
    """Returns `module_cls`, or raises MismatchError if no module can come of it."""
    if isinstance(module_cls, torch.jit.ScriptModule):
        return module_cls
    if isinstance(module_cls, torch.nn.Module):
        raise MismatchError(
            f"module_cls: an instance of {type(module_cls).__name__}; "
            "pass the class and its args, or torch.jit.script(module)"
        )
    if not callable(module_cls):
        raise MismatchError(
            f"module_cls: {module_cls!r} cannot be called; pass a class or function that returns an nn.Module"
        )
    return module_cls
