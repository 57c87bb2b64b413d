"""Works on a remote module's state: parameters, modes, device, checkpoints. It runs Python on both workers.

It is not for calls: these go through the stub's own methods.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.distributed.rpc as rpc

from ... import _torch
from ...errors import ArgumentError, MismatchError
from ...owner import module_state, overlaps
from ...owner.checkpoints import check_path, checkpoint_here
from ...owner.state_names import differences
from ...owner.state_versions import with_versions
from .asks_owner import AsksOwner
from .remedies import AT_OWNER, COPIED, COPIES, NEW_DICT, WHERE_IT_IS_MADE, asks_for_a_dtype, refuse
from .shared_mode import note_mode
from .state_given import check_context, check_is_bool, check_is_device, check_is_mapping, check_values
from .stub import stub_along


class IncompatibleKeys(NamedTuple):
    """The names that `load_state_dict(strict=False)` left out."""

    missing_keys: list[str]  # in the module, and not in the state
    unexpected_keys: list[str]  # in the state, and not in the module


def at_owner(stub: Any, timeout: float | None = None) -> AtOwner:
    """Gives access to a stub's module on its owner: its parameters, state, mode, device and checkpoints.

    Some of it a stub has, too, such as `state_dict()` and `train()`. Other methods that it inherits from
    `torch.nn.Module`, such as `parameters()` and `to()`, refuse, and lead here. Here each message may have another
    timeout than the stub's calls.

    Args:
        stub: a stub, as `create`, `connect` or `reconnect` returns it.
        timeout: seconds that each message may take; 0 for no limit, None for the stub's own timeout. Most methods are
            one message. `state_dict` and `load_state_dict` are one for each piece of the state, and one before.

    Returns:
        An `AtOwner`.

    Raises:
        InterfaceError: `stub` is no stub.
        ValueError: `timeout` is no number of seconds.

    With a stub `layer` of a `torch.nn.Linear(4, 2)`:

    >>> sorted(at_owner(layer).state_dict())
    ['bias', 'weight']
    """
    return AtOwner(stub, timeout)


class AtOwner(AsksOwner):
    """A remote module, seen from its owner. `at_owner` makes one from a stub.

    All methods wait for the owner. They raise `CallTimeoutError` if a message takes longer than the timeout,
    `StaleStubError` if the module was withdrawn, `WireError` if the owner is lost, and `RemoteError` for an exception
    of the module itself.

    The examples have a stub `layer` of a `torch.nn.Linear(4, 2)`.
    """

    if not TYPE_CHECKING:  # a checker of types knows the names

        def __getattr__(self, name: str) -> Any:
            has = "it has " + ", ".join(one for one in dir(type(self)) if not one.startswith("_"))
            said = f"at_owner(stub).{name}: no such attribute; {AT_OWNER.get(name, has)}"
            raise AttributeError(said, name=name, obj=self)

        def __iter__(self) -> Any:
            raise TypeError("at_owner(stub) is no list; write at_owner(stub).parameters() for an optimizer")

    def parameters(self, recurse: bool = True) -> list[rpc.RRef[Any]]:
        """Returns references to the parameters, for `torch.distributed.optim.DistributedOptimizer`.

        The parameters themselves stay on the owner.

        Args:
            recurse: True includes the parameters of submodules.

        Raises:
            ValueError: `recurse` is neither True nor False.

        Returns:
            One RRef for each parameter, in the order of `torch.nn.Module.parameters`.

        >>> [parameter.owner_name() for parameter in at_owner(layer).parameters()]
        ['owner', 'owner']
        """
        check_is_bool("parameters", "recurse", recurse)
        found: list[rpc.RRef[Any]] = self._ask(module_state.parameters_here, recurse)
        for reference in found:
            _torch.keep_in_forks(reference)
        return found

    def state_dict(
        self, *, destination: None = None, prefix: str = "", keep_vars: bool = False
    ) -> OrderedDict[str, torch.Tensor]:
        """Copies the module's state to this worker's CPU, in pieces of at most 64 MiB.

        The names are those of the Python module's own `state_dict`. A module that was scripted before it was hosted
        has all its buffers there: TorchScript does not keep which of them are persistent.

        Args:
            destination: None. What is returned is new.
            prefix: is put before each name, and before those of the parts whose versions are noted.
            keep_vars: False. The tensors are copies, and no parameters.

        Returns:
            A tensor for each name, with the shape and dtype that it has in the module, whatever the default device and
            the modes of the thread that asks. As torch's own, it also has the versions of the module's parts.

        Raises:
            ArgumentError: a tensor is quantized or not strided; use `checkpoint`.
            StubError: `keep_vars` is True, or there is a `destination`.
            NotSavableError: the module's own `state_dict` has more than parameters and buffers: quantized modules,
                extra state. Or the module was frozen.
            StaleStubError: the module was moved or replaced meanwhile; ask again.

        >>> at_owner(layer).state_dict()["weight"].shape
        torch.Size([2, 4])
        """
        if keep_vars:
            refuse(self._stub, "state_dict(keep_vars=True)", COPIES)
        if destination is not None:
            refuse(self._stub, "state_dict(destination=)", NEW_DICT)
        # If the stub follows its name to another module meanwhile, that one must not be asked for the rest.
        check_context(self._where, "state_dict")
        route, (exchanged, parts, versions) = self._ask_following(module_state.state_here)
        with torch.inference_mode(False):  # whoever asks: the tensors are as those of a local state_dict()
            copied = {name: torch.empty(part.shape, dtype=part.dtype, device="cpu") for name, part in parts.items()}
            for message in module_state.pieces(parts):
                read = self._ask_once(route, module_state.read_here, exchanged, message)
                for piece, values in zip(message, read, strict=True):
                    piece.of(copied[piece.name]).copy_(values)
        return with_versions(copied, versions.of_parts, prefix)

    def load_state_dict(
        self, state_dict: Mapping[str, torch.Tensor], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copies `state_dict` into the module, in pieces of at most 64 MiB.

        Calls that run meanwhile may see old values beside new ones. If they run in turn, each piece is copied between
        two of them, and is not lost.

        Args:
            state_dict: a tensor for each name, of the same shape as in the module, on any device. Values are converted
                to the module's dtypes.
            strict: True refuses a state that lacks a name of the module, or has others.
            assign: False. Parameters stay as they are, and get the values.

        Returns:
            The names that were left out, as from `torch.nn.Module.load_state_dict`.

        Raises:
            MismatchError: shapes differ, or names do and `strict` is True, or a tensor is complex and the module's is
                not. Or a part converts states of other versions as it loads them, in a `_load_from_state_dict` or a
                hook of its own, and `state_dict` is one. Nothing was changed.
            ArgumentError: `state_dict` is no mapping, or what it has under a name of the module is no strided tensor.
                Nothing was changed.
            NotSavableError: as from `state_dict`. Or elements of a tensor share memory, as after `expand`. Nothing was
                changed.
            StubError: `assign` is True. Nothing was changed.
            StaleStubError: the module was moved or replaced meanwhile; load again.

        >>> at_owner(layer).load_state_dict({"bias": torch.zeros(2)}, strict=False)
        IncompatibleKeys(missing_keys=['weight'], unexpected_keys=[])
        """
        check_context(self._where, "load_state_dict")
        if assign:
            refuse(self._stub, "load_state_dict(assign=True)", COPIED)
        check_is_mapping(self._where, state_dict)
        route, (exchanged, parts, versions) = self._ask_following(module_state.state_here)  # as in `state_dict`
        common = {name: part for name, part in parts.items() if name in state_dict}
        overlaps.check_none((name for name, part in common.items() if part.overlaps), f"{self._where}: ")
        check_values(self._where, {name: state_dict[name] for name in common})
        keys = IncompatibleKeys(
            [name for name in parts if name not in state_dict], [name for name in state_dict if name not in parts]
        )
        wrong = differences(parts, versions, state_dict, strict)
        if wrong:
            raise MismatchError(f"{self._where}: the state does not fit: {wrong}")
        for message in module_state.pieces(common):
            values = [
                piece.of(state_dict[piece.name].detach()).to("cpu", common[piece.name].dtype) for piece in message
            ]
            copies = [value.clone() for value in values]  # RPC would send the whole storage of a view
            self._ask_once(route, module_state.write_here, exchanged, message, copies)
        return keys

    def train(self, mode: bool = True) -> AtOwner:
        """Sets the module's training mode. All its callers share it. Returns this object.

        Args:
            mode: True for training, False for evaluation.

        Raises:
            ValueError: `mode` is neither True nor False.
            ArgumentError: the module was exported in the other mode alone.

        >>> at_owner(layer).train()
        at_owner(Layer on owner)
        """
        check_is_bool("train", "training mode", mode)
        route, _ = self._ask_following(module_state.train_here, mode)
        note_mode(route.worker, route.handle, mode)
        return self

    def eval(self) -> AtOwner:
        """Sets the module to evaluation, as `train(False)` does. All its callers share the mode. Returns this object.

        >>> at_owner(layer).eval()
        at_owner(Layer on owner)
        """
        return self.train(False)

    def module_rref(self) -> rpc.RRef[Any]:
        """Returns a reference to the module itself.

        The reference does not follow: if the module is moved or replaced, it still leads to the old one.

        Returns:
            An RRef. In TorchScript it is an `RRef[Encoder]` for a stub of the interface `Encoder`, if the owner has
            imported that class and `remote_scriptable` or `torch.jit.interface` decorates it.

        >>> at_owner(layer).module_rref().owner_name()
        'owner'
        """
        found: rpc.RRef[Any] = self._ask(module_state.module_rref_here, self._compiled.interface.qualified_name)
        _torch.keep_in_forks(found)
        return found

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Sets the parameters' `.grad` to None. Gradients of distributed autograd are elsewhere, in its contexts.

        Args:
            set_to_none: True. Zeros are not written.

        Raises:
            ArgumentError: `set_to_none` is False.
            ValueError: it is neither True nor False.

        >>> at_owner(layer).zero_grad()
        """
        check_is_bool("zero_grad", "set_to_none", set_to_none)
        if not set_to_none:
            raise ArgumentError(
                f"{self._where}: zero_grad(set_to_none=False): gradients are set to None alone; leave set_to_none out"
            )
        self._ask(module_state.zero_grad_here)

    def requires_grad_(self, requires_grad: bool = True) -> AtOwner:
        """Sets whether autograd records operations on the parameters. Returns this object.

        Args:
            requires_grad: True records them, False does not.

        Raises:
            ValueError: `requires_grad` is neither True nor False.

        >>> at_owner(layer).requires_grad_(False)
        at_owner(Layer on owner)
        """
        check_is_bool("requires_grad_", "requires_grad", requires_grad)
        self._ask(module_state.requires_grad_here, requires_grad)
        return self

    def to(
        self,
        device: str | torch.device | None = None,
        dtype: None = None,
        non_blocking: bool = False,
        *,
        memory_format: None = None,
        tensor: None = None,
    ) -> Any:
        """Moves the module to another device of its owner.

        Existing stubs follow. Each call runs on the whole module, on the old device or on the new one. The module on
        the new device is a copy, so make optimizers of the old parameters again.

        Args:
            device: a device as torch writes it, such as "cuda:1".
            dtype, memory_format, tensor: None. A module gets these on the owner, where it is made.
            non_blocking: True changes nothing: the module is on the new device when this returns.

        Returns:
            A stub of the same module, whose `repr` names the new device.

        Raises:
            PlaceError: there is no such device on the owner.
            StubError: it is to have another dtype or memory format.
            ArgumentError: the module was exported or compiled for another device.

        >>> at_owner(layer).to("cpu")
        LayerStub(Layer on owner/cpu, answers)
        """
        if asks_for_a_dtype((device, dtype, memory_format, tensor)):
            refuse(self._stub, "to", WHERE_IT_IS_MADE)
        check_is_device(self._where, device)
        route, moved = self._ask_following(module_state.move_here, str(device))
        return stub_along(self._stub, replace(route, device=moved))

    def checkpoint(self, path: str | os.PathLike[str] | None = None) -> None:
        """Writes the module's state to a file on its owner, with `torch.save`.

        A file that is there already stays until the new one is whole, and the new one has its mode. A symbolic link
        stays a link, and the file that it leads to is written.

        Args:
            path: the file's path on the owner. None: where `create(..., checkpoint=path)` said.

        Raises:
            ArgumentError: `path` is none that can be written. Or it is None, and the module was created or served
                without `checkpoint`.
            NotSavableError: as from `load_state_dict`. No file was written.
            RemoteError: the owner cannot write the file.

        >>> import tempfile
        >>> path = f"{tempfile.mkdtemp()}/layer.pt"
        >>> at_owner(layer).checkpoint(path)
        >>> sorted(torch.load(path))  # on the owner's machine
        ['bias', 'weight']
        """
        self._ask(checkpoint_here, check_path(path, "path"))

    def __repr__(self) -> str:
        return f"at_owner({self._where})"

    def __reduce__(self) -> tuple[Callable[..., AtOwner], tuple[Any, ...]]:
        # Where it is sent to, and in a copy, the stub is another one of the same module.
        return at_owner, (self._stub, self._given)
