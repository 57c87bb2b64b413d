"""RemoteModule, as torch.distributed.nn has it: the same names, arguments and refusals, on this package's compiler.

For programs that have it already: one import changes. With an interface it is a stub, and all that is said of stubs
holds; without one, it calls through Python on both sides, and takes whatever can be pickled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, cast

import torch
import torch.distributed.nn
import torch.distributed.rpc as rpc
from torch import nn

from .. import _torch
from .._torch import PyRRef
from ..caller.creating.create import adopt, prepare
from ..caller.creating.pending_stub import send_request
from ..caller.creating.sending import cancelled_if_interrupted
from ..caller.messages.exchange import send
from ..caller.stubs import as_module
from ..caller.stubs.at_owner import AtOwner, at_owner
from ..caller.stubs.stub import Stub, become_stub, route_and_interface
from ..errors import ArgumentError, InterfaceError, NotSavableError
from ..jit import Interface, compile_interface
from ..link.route import Route
from ..link.whole_values import checked_value
from .pickled import _REMOTE_MODULE_PICKLED_ATTRIBUTES as _REMOTE_MODULE_PICKLED_ATTRIBUTES
from .pickled import reduce_for_rpc, refer
from .place import ModulePlace
from .without_interface import GeneratedMethod, Referenced, made_on

__all__ = ["RemoteModule"]


class _RemoteModule(nn.Module):
    """Builds a module on another worker, and calls it as if it were here.

    Args:
        remote_device: "worker", "worker/device", "rank:N" or "rank:N/device"; without a device, the CPU.
        module_cls: any callable that the owner can import and that returns an nn.Module.
        args, kwargs: what `module_cls` is called with, on the owner.
        _module_interface_cls: a class of annotated methods, which the module implements; `torch.jit.interface` is not
            needed. With it, this is a stub, and scriptable. Without it, `forward` takes what can be pickled.
        name: serves a module that has an interface under this name, so that it can be saved, and `connect` finds it.
        in_turn: as for `create`, if the module has an interface. Where calls have to run in turn and the owner cannot
            do that, this warns and lets them run at once, as torch's class does.
        examples: as for `create`, if the module has an interface: it is exported, and not scripted.

    Raises:
        AssertionError: RPC is not running in this process.
        ValueError: `remote_device` cannot be read.
        RuntimeError: there is no such worker, or no such kind of device.
        TorchRemoteError: with an interface, what `create` raises. Without one, nothing is waited for, and the first
            call raises what the owner did.

    Tensors in the arguments move to the module's device, and those in the result back to the CPU, unless this worker
    has a device map to the owner: however deep in containers.

    What cannot be done to a module that is elsewhere is refused with a ValueError: `parameters`, `to`, `apply` and the
    like. A model that has a remote module as a part can do most of that, to its other parts.
    """

    if TYPE_CHECKING:  # torch.jit.script would read annotations of the class
        on: str | int  # the worker, by its name or rank
        device: str
        is_device_map_set: bool
        is_scriptable: bool
        generated_methods: list[Callable[..., Any]]
        module_rref: PyRRef[Any]

    def __init__(
        self,
        remote_device: str,
        module_cls: Callable[..., nn.Module],
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        _module_interface_cls: Any = None,
        *,
        name: str | None = None,
        in_turn: bool | None = None,
        examples: Mapping[str, Any] | None = None,
    ) -> None:
        nn.Module.__init__(self)  # torch's RemoteModule, from which RemoteModule derives as well, would create one
        place = ModulePlace.at(remote_device)
        args, kwargs = () if args is None else args, {} if kwargs is None else kwargs
        if _module_interface_cls is not None:
            asked = prepare(
                place.where,
                _module_interface_cls,
                module_cls,
                args,
                kwargs,
                name=name,
                in_turn=in_turn,
                examples=examples,
                strict=False,  # torch's class hosts any module
            )
            _check_names(asked.compiled.interface)
            with cancelled_if_interrupted(asked.worker, asked.request.ticket):
                become_stub(self, asked.compiled, send_request(*asked).route(), _Scripted)
        elif extras := [
            what for what, given in (("name", name), ("in_turn", in_turn), ("examples", examples)) if given is not None
        ]:
            raise ArgumentError(
                f"RemoteModule: {', '.join(extras)}: only for modules with an interface; give _module_interface_cls, "
                f"or leave {'it' if len(extras) == 1 else 'them'} out"
            )
        else:
            args, kwargs = checked_value(args, "RemoteModule.args"), checked_value(kwargs, "RemoteModule.kwargs")
            # Without a limit: torch never gets over an RRef that was dropped after its creation took too long.
            made = (place.on, made_on, (place.device, module_cls, args, kwargs))
            created = send(rpc.remote, made, {"timeout": 0}, catches=())
            refer(self, place, created)

    @staticmethod
    def init_from_module_rref(
        remote_device: str, module_rref: PyRRef[Any], _module_interface_cls: Any = None
    ) -> RemoteModule:
        """Makes another remote module of a module that exists.

        Args:
            remote_device: as for `RemoteModule`: says on which device the module is. It stays there, on the worker
                that owns `module_rref`, be another named here or not.
            module_rref: a reference to the module.
            _module_interface_cls: as for `_RemoteModule`. What is called then is the module, scripted, which shares
                its parameters.
        """
        place = ModulePlace.at(remote_device)
        module: RemoteModule = RemoteModule.__new__(RemoteModule)
        if _module_interface_cls is None:
            mapped = bool(_torch.mapped_devices(module_rref.owner()))
            refer(module, replace(place, is_device_map_set=mapped), module_rref)
        else:
            compiled = compile_interface(_module_interface_cls)
            _check_names(compiled.interface)
            become_stub(module, compiled, adopt(module_rref, compiled, place.device).route(), _Scripted)
        return module

    def get_module_rref(self) -> PyRRef[Any]:
        """Returns a reference to the remote module."""
        return self.module_rref

    def remote_parameters(self, recurse: bool = True) -> list[rpc.RRef[Any]]:
        """Returns references to the parameters, for `torch.distributed.optim.DistributedOptimizer`.

        Args:
            recurse: the submodules', too.
        """
        return self._owner_side().parameters(recurse)

    def train(self, mode: bool = True) -> Any:
        """Sets the training mode of the remote module, which all its callers share, and returns `self`."""
        self._owner_side().train(mode)
        self.training = mode
        return self

    def eval(self) -> Any:
        """Sets the remote module to evaluation mode, and returns `self`: `train(False)`."""
        return self.train(False)

    def _owner_side(self) -> AtOwner | Referenced:
        return Referenced(self.module_rref)

    forward: Any = GeneratedMethod()
    forward_async: Any = GeneratedMethod()

    def __getattr__(self, name: str) -> Any:
        if "module_rref" in self.__dict__:
            # Made from a reference, or received: it becomes an nn.Module when something asks for that. One attribute
            # after the other, and none that is there, for threads may come here together.
            state = vars(nn.Module())
            if name in state:
                for missing, value in state.items():
                    self.__dict__.setdefault(missing, value)
                return self.__dict__[name]
        return super().__getattr__(name)

    def __getstate__(self) -> NoReturn:
        raise NotSavableError(
            "Cannot pickle RemoteModule in python pickler. RemoteModule can only be pickled when using RPC"
        )

    def __setstate__(self, state: object) -> NoReturn:
        raise NotSavableError(
            "Cannot unpickle RemoteModule in python pickler. RemoteModule can only be unpickled when using RPC"
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.on}/{self.device})"

    # -- refused, but for a model that this is a part of, which passes over it

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        raise ValueError(
            "Method ``parameters`` not supported for RemoteModule. Please use ``remote_parameters`` instead."
        )

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        if memo is None:
            _refuse("named_modules")
        return iter(())

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        if destination is None:
            _refuse("state_dict")
        return destination

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        return self


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"Method ``{name}`` not supported for RemoteModule")


def _refusing(name: str) -> Callable[..., NoReturn]:
    def refused(self: _RemoteModule, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse(name)

    refused.__name__ = name
    refused.__qualname__ = f"_RemoteModule.{name}"
    return refused


for _name in (
    "register_buffer register_parameter add_module apply cuda ipu xpu cpu type float double half bfloat16 to "
    "register_backward_hook register_forward_pre_hook register_forward_hook load_state_dict named_parameters buffers "
    "named_buffers children named_children modules requires_grad_ zero_grad share_memory extra_repr"
).split():
    setattr(_RemoteModule, _name, _refusing(_name))


class RemoteModule(_RemoteModule, torch.distributed.nn.RemoteModule):  # type: ignore[misc]
    """Builds a module on another worker, and calls it as if it were here; through Python, and with any arguments.

    `_RemoteModule` also takes an interface, and then calls without the owner's Python. For new code, use `create`. It
    derives from torch's class, for libraries that ask `isinstance`; nothing of that class runs but its `__new__`.

    Args:
        remote_device: "worker", "worker/device", "rank:N" or "rank:N/device"; without a device, the CPU.
        module_cls: any callable that the owner can import and that returns an nn.Module.
        args, kwargs: what `module_cls` is called with, on the owner.

    In a group with a worker "owner":

    >>> layer = RemoteModule("owner/cpu", torch.nn.Linear, (4, 2))
    >>> layer.forward(torch.ones(3, 4)).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        remote_device: str,
        module_cls: Callable[..., nn.Module],
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
    ) -> None:
        _RemoteModule.__init__(self, remote_device, module_cls, args, kwargs)


class _Scripted:
    """Mixin of a RemoteModule that has an interface. Its class derives from this, the user's class and Stub."""

    train = as_module.train
    eval = as_module.eval

    @property
    def on(self) -> str:
        return self._route().worker

    @property
    def device(self) -> str:
        return self._route().device

    @property
    def is_device_map_set(self) -> bool:
        return bool(self._route().devices)

    @property
    def is_scriptable(self) -> bool:
        return True

    @property
    def generated_methods(self) -> list[Callable[..., Any]]:
        _, compiled = route_and_interface(self, "RemoteModule")
        names = [name for method in compiled.interface.methods for name in (f"{method.name}_async", method.name)]
        return [getattr(super(_RemoteModule, cast(_RemoteModule, self)), name).__func__ for name in names]

    @property
    def module_rref(self) -> PyRRef[Any]:
        return self._owner_side().module_rref()

    def _route(self) -> Route:
        return route_and_interface(self, "RemoteModule")[0]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({Stub.extra_repr(cast(Stub, self))})"

    def _owner_side(self) -> AtOwner:
        return at_owner(self)


def _check_names(interface: Interface) -> None:
    """Raises InterfaceError if a method, or one that stubs get for it, would replace one of a remote module's own."""
    for method in interface.methods:
        for name in (method.name, f"{method.name}_async"):
            if name not in ("forward", "forward_async") and (hasattr(_RemoteModule, name) or hasattr(_Scripted, name)):
                where = f"{interface.name}.{method.name}"
                raise InterfaceError(f"{where}: a RemoteModule has a {name} of its own; rename it, or use create()")


for _class in (_RemoteModule, RemoteModule):  # not what derives from them: its own attributes would be lost
    _torch.send_as(_class, reduce_for_rpc)
