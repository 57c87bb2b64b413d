"""Replicas as users hold them: one object with the methods of the interface, and those of torch.nn.Module.

In a model they are a part that has nothing of its own, as a stub is: see stubs/as_module.py,
Note [A stub in a model].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NoReturn

import torch

from ... import _torch
from ...errors import NotSavableError, StubError
from ...jit import CompiledInterface
from ...jit.read.shown import repr_of
from ...jit.script.cache import Cache
from ..calls.profiled import profiled
from ..stubs import as_module
from ..stubs.as_python import AsPython
from ..stubs.assigned import check_deleted, takes
from ..stubs.remedies import REMEDIES, WITHOUT_STATE
from ..stubs.stub import SeveralModules, Stub
from .calls import replica_calls
from .team import TEAM, Team, team_of


class ReplicasClass(type):
    """Metaclass of generated classes. They cannot be imported by name, so RPC's pickler knows them by it."""

    reduce_for_rpc: Callable[[Any], tuple[Any, ...]]
    """Takes replicas apart for RPC's pickler. send_replicas.py sets this, because it needs `make_replicas`."""


class Replicas(AsPython, SeveralModules, metaclass=ReplicasClass):
    """Stands for modules of the same name on several workers. `connect` returns it for a list of workers.

    It is called as a stub is. Each call goes to one of the modules: see team.py, Note [Replicas].
    """

    def __init__(self, team: Team) -> None:
        self.__dict__[TEAM] = team
        self.__dict__.update(vars(torch.nn.Module()))  # its `__init__` would set the mode
        del self.__dict__["training"]

    def along(self, timeout: float | None) -> Any:
        return self._of(team_of(self).along(timeout))

    def _of(self, team: Team) -> Any:
        """Makes another object, of a team of the same modules, with the attributes that the user's code set."""
        made = make_replicas(team)
        made.__dict__.update(own_of(self))
        return made

    # -- what reaches all of them

    def train(self, mode: bool = True) -> Replicas:
        """Sets the training mode of all replicas. One that is lost gets it when it comes back.

        Args:
            mode: True for training, False for evaluation.
        """
        if not isinstance(mode, bool):
            raise ValueError(f"train({repr_of(mode)}): training mode is True or False")
        team_of(self).train(mode)
        return self

    @property
    def training(self) -> bool:  # type: ignore[override]
        """The mode of the replicas, as this process knows it."""
        return team_of(self).shared.training

    def __setattr__(self, name: str, value: Any) -> None:
        if takes(team_of(self).title, name, value, self.training):
            super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        check_deleted(team_of(self).title, name)
        super().__delattr__(name)

    # -- what is refused

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """Refuses: each replica has a state of its own. For a model that asks: adds nothing."""
        destination = args[0] if args else destination
        if destination is not None:  # a model gives every part its own
            return destination
        self._torchremote_refuse("state_dict", "each module has a state of its own")

    def __prepare_scriptable__(self) -> NoReturn:
        raise StubError(
            f"{team_of(self).title}: TorchScript cannot choose among replicas; in a scripted model, {self._remedy}"
        )

    def save(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuses: an archive has the address of one module."""
        raise NotSavableError(f"{team_of(self).title}: replicas are not saved; {self._remedy}, and save that stub")

    save_to_buffer = save

    def __getstate__(self) -> NoReturn:
        raise NotSavableError(
            f"{team_of(self).title}: replicas are not pickled, but by RPC; pickle the arguments of connect(), and "
            "connect where they are read"
        )

    def _torchremote_refuse(self, method: str, remedy: str) -> NoReturn:
        remedy = remedy if remedy in WITHOUT_STATE else self._remedy
        raise StubError(f"{team_of(self).title}: {method}: these are modules on several workers; {remedy}")

    @property
    def _remedy(self) -> str:
        team = team_of(self)
        interface = self._torchremote_compiled.interface.name
        return f"connect to one of them alone: torchremote.connect({team.where[0]!r}, {interface}, {team.name!r})"

    # -- what is shown and copied

    def __repr__(self) -> str:
        return f"{type(self).__name__}({team_of(self).shown})"

    def _torchremote_own(self) -> dict[str, Any]:
        return own_of(self)

    def __copy__(self) -> Any:
        return self._of(team_of(self))


def own_of(replicas: Replicas) -> dict[str, Any]:
    """Returns the attributes that the user's code set."""
    every = {*vars(torch.nn.Module()), TEAM}
    return {name: value for name, value in vars(replicas).items() if name not in every}


def make_replicas(team: Team) -> Any:
    """Makes the object that users hold."""
    return replicas_class(team.compiled)(team)


def _workers(replicas: Any) -> str:
    """Names all workers of replicas, for the ranges of a profiler: which one of them runs a call is decided later."""
    return f" on {', '.join(team_of(replicas).where)}"


_classes: Cache[CompiledInterface, type[Replicas]] = Cache()


def replicas_class(compiled: CompiledInterface) -> type[Replicas]:
    """Returns the Python class of replicas with an interface."""
    return _classes.get(compiled, lambda: _make_class(compiled))


def _make_class(compiled: CompiledInterface) -> type[Replicas]:
    members: dict[str, Any] = {"__module__": __name__, "_torchremote_compiled": compiled}
    if compiled.as_written.doc:
        members["__doc__"] = compiled.as_written.doc
    for method in compiled.interface.methods:
        for call in replica_calls(compiled, method):
            members[call.__name__] = profiled(call, compiled, method, _workers)
    cls: Any = ReplicasClass(f"{compiled.interface.name}Replicas", (Replicas,), members)
    _torch.send_as(cls, ReplicasClass.reduce_for_rpc)
    made: type[Replicas] = cls
    return made


_MODEL_ASKS: Final = "parameters named_parameters buffers named_buffers apply _apply".split()
for _name in (*_MODEL_ASKS, *REMEDIES):
    setattr(Replicas, _name, getattr(Stub, _name))
for _name in ("load_state_dict", "requires_grad_", "zero_grad"):
    setattr(Replicas, _name, as_module.refusing(_name, "each module has a state of its own"))
