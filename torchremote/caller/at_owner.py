"""What can be done to a remote module beside calling it: through Python on both sides, and not for the data plane."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from .._torch import PyRRef
from ..errors import ArgumentError, MismatchError, PlaceError
from ..owner import module_state
from .exchange import ask
from .stub import route_and_interface, stub_along


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` left out."""

    missing_keys: list[str]  # in the module, and not in the state
    unexpected_keys: list[str]  # the other way round


def at_owner(stub: Any) -> AtOwner:
    """A stub's module, where it is: what `torch.nn.Module` has for its state, done on the owner.

    `stub.state_dict()` and the like are of the stub itself, which has no state; `at_owner(stub).state_dict()` is the
    remote module's.

    Raises:
        InterfaceError: `stub` is none.
    """
    return AtOwner(stub)


class AtOwner:
    """A remote module where it is.

    All methods wait for the owner. They raise `StaleStubError` when the module was withdrawn, `WireError` when the
    owner is lost, and `RemoteError` for what the module itself raises.
    """

    def __init__(self, stub: Any) -> None:
        self._route, self._compiled = route_and_interface(stub, "at_owner")
        self._stub = stub

    def parameters(self, recurse: bool = True) -> list[PyRRef[Any]]:
        """References to the parameters, which stay: for `torch.distributed.optim.DistributedOptimizer`.

        Args:
            recurse: the submodules', too.
        """
        found: list[PyRRef[Any]] = self._ask(module_state.parameters_here, recurse)
        return found

    def state_dict(self) -> dict[str, torch.Tensor]:
        """A copy of the module's state, on this worker's CPU; it comes in pieces of 64 MiB."""
        exchanged, parts = self._parts()
        copied = {name: torch.empty(part.shape, dtype=part.dtype) for name, part in parts.items()}
        for message in module_state.pieces(parts):
            for piece, values in zip(message, self._ask(module_state.read_here, exchanged, message), strict=True):
                piece.of(copied[piece.name]).copy_(values)
        return copied

    def load_state_dict(self, state: Mapping[str, torch.Tensor], strict: bool = True) -> IncompatibleKeys:
        """Copies `state` into the module's, in pieces of 64 MiB. Calls that run meanwhile may see some of both.

        Raises:
            MismatchError: names (if `strict`) or shapes differ; nothing was changed.
            ArgumentError: `state` is no mapping of strided tensors; nothing was changed.
        """
        if not isinstance(state, Mapping):
            raise ArgumentError(f"{self._where}: load_state_dict({type(state).__name__}): not a mapping of tensors")
        for name, value in state.items():
            if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_meta:
                what = str(value.layout) if isinstance(value, torch.Tensor) else type(value).__name__
                raise ArgumentError(f"{self._where}: {name} is no strided tensor with values, but a {what}")
        exchanged, parts = self._parts()
        keys = IncompatibleKeys(
            [name for name in parts if name not in state], [name for name in state if name not in parts]
        )
        wrong = [f"{name} is missing" for name in keys.missing_keys if strict]
        wrong += [f"{name} is not the module's" for name in keys.unexpected_keys if strict]
        common = {name: part for name, part in parts.items() if name in state}
        wrong += [
            f"{name} has shape {tuple(state[name].shape)}, and {part.shape} in the module"
            for name, part in common.items()
            if tuple(state[name].shape) != part.shape
        ]
        if wrong:
            raise MismatchError(f"{self._where}: the state does not fit: {'; '.join(wrong)}")
        for message in module_state.pieces(common):
            values = [piece.of(state[piece.name].detach()).to("cpu", common[piece.name].dtype) for piece in message]
            copies = [value.clone() for value in values]  # a view would send all that it is of
            self._ask(module_state.write_here, exchanged, message, copies)
        return keys

    def train(self, mode: bool = True) -> None:
        """Sets the module's training mode, which all its callers share."""
        self._ask(module_state.train_here, mode)

    def eval(self) -> None:
        """`train(False)`."""
        self.train(False)

    def module_rref(self) -> PyRRef[Any]:
        """A reference to the module itself, as it is now: a moved or replaced module is another one.

        In TorchScript it is an `RRef[Encoder]`, if the owner knows the stub's interface by its name: when its module
        there imports the class, under `remote_scriptable` or `torch.jit.interface`.
        """
        found: PyRRef[Any] = self._ask(module_state.module_rref_here, self._compiled.interface.qualified_name)
        return found

    def zero_grad(self) -> None:
        """Lets go of the gradients in the parameters' `.grad`. Those of distributed autograd are in its contexts."""
        self._ask(module_state.zero_grad_here)

    def requires_grad_(self, requires_grad: bool = True) -> None:
        """Whether autograd records operations on the parameters."""
        self._ask(module_state.requires_grad_here, requires_grad)

    def to(self, device: str) -> Any:
        """Moves the module to another device of its owner, and returns a stub that says where it is.

        Stubs that are out follow: each call gets the module where it was or where it is, whole. The module on the new
        device is a copy: optimizers that have the old parameters are to be made again.

        Args:
            device: as torch writes it, such as "cuda:1".

        Raises:
            PlaceError: there is no such device on the owner.
        """
        try:
            torch.device(device)
        except (RuntimeError, TypeError) as error:
            raise PlaceError(f"{self._where}: to({device!r}): no device: {str(error).splitlines()[0]}") from error
        moved: str = self._ask(module_state.move_here, device)
        return stub_along(self._stub, replace(self._route, device=moved))

    def checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Writes the module's state to a file on its owner, for `torch.load` there; a file that was there is replaced
        only when the new one is whole."""
        self._ask(module_state.checkpoint_here, os.fspath(path))

    def __repr__(self) -> str:
        return f"at_owner({self._where})"

    @property
    def _where(self) -> str:
        return f"{self._compiled.interface.name} on {self._route.worker}"

    def _parts(self) -> tuple[int, dict[str, module_state.Part]]:
        answer: tuple[int, dict[str, module_state.Part]] = self._ask(module_state.parts_here)
        return answer

    def _ask(self, function: Callable[..., Any], *args: Any) -> Any:
        # Without a limit: how long a disk or a device takes nobody knows, and a lost owner is noticed at once.
        return ask(self._route.worker, self._where, function, self._route.handle, *args, timeout=0)
