"""Knows the training modes for which the graphs of an exported module are right: its own, and those of its parts.

Note [Modes of parts]
    A graph has the modes that all parts of the module had when it was captured. A part may be in another mode than the
    module: a norm that is frozen while the rest is trained, or a dropout that drops in evaluation. Whoever sets the
    mode of the module sets that of all parts, as torch's `train` does, and a graph cannot follow. So an exported module
    keeps which parts were in the other mode, and which its `train` would have set otherwise. Where there are none of
    the second, the mode may be set. A module can have a `train` of its own, that leaves a part as it is. It is called
    to find that out, and what it does to modes and `requires_grad` is undone.

    A program of torch.export says for operators in which mode they are. If they differ, its mode cannot be set.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from torch import nn

MODES: Final = "torchremote_modes"
MIXED: Final = "torchremote_mixed_modes"
COMPILED: Final = "torchremote_compiled"
"""Attributes of exported modules: the modes that it was exported in; parts in the other mode, if there are any; and
whether AOTInductor compiled it."""
MODE_NAMES: Final = {True: "training", False: "evaluation"}
SETS: Final = {"training": "train()", "evaluation": "eval()"}
"""Names the call that sets each mode."""
_SHOWN: Final = 5  # names in a message


@dataclass(frozen=True)
class PartModes:
    """The modes of a module's parts, while the module is in one mode."""

    others: tuple[str, ...] = ()  # the parts that are in the other mode
    undone: tuple[str, ...] = ()  # those that `train` would set to another mode than they are in


def modes_of(module: nn.Module) -> PartModes:
    """Reads the modes of a module's parts."""
    training = module.training
    others = parts_in_other_mode(module, training)
    if not has_own_train(module):
        return PartModes(others, others)
    before = {name: part.training for name, part in module.named_modules(remove_duplicate=False)}
    after = _set_by_train(module, training)
    return PartModes(others, tuple(name for name, mode in before.items() if after.get(name, training) != mode))


def has_own_train(module: nn.Module) -> bool:
    """Says whether a module, or a part of it, has a `train` that is not torch's."""
    return any(type(part).train is not nn.Module.train or "train" in vars(part) for part in module.modules())


def parts_in_other_mode(module: nn.Module, training: bool) -> tuple[str, ...]:
    """Lists the parts of a module that are in another mode than `training`, by their names."""
    return tuple(name for name, part in module.named_modules(remove_duplicate=False) if part.training != training)


def _set_by_train(module: nn.Module, training: bool) -> dict[str, bool]:
    """Returns the modes that a module's own `train` sets, by part. Returns none if it raises."""
    with undoing_train(module):
        try:
            module.train(training)
        except Exception:  # it is the user's own
            return {}
        return {name: part.training for name, part in module.named_modules(remove_duplicate=False)}


@contextlib.contextmanager
def undoing_train(module: nn.Module) -> Iterator[None]:
    """Afterwards restores the modes of a module's parts, and which parameters require gradients."""
    modes = [(part, part.training) for part in module.modules()]
    gradients = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
        for parameter, required in gradients:
            parameter.requires_grad_(required)


def written(modes: Mapping[bool, PartModes]) -> str:
    """Writes the modes of parts as text. "" if all parts are in the mode of the module, and stay in it."""
    found = {MODE_NAMES[mode]: (parts.others, parts.undone) for mode, parts in modes.items()}
    return json.dumps(found) if any(map(any, found.values())) else ""


def _read(module: nn.Module, training: bool) -> PartModes:
    """Reads the modes of the parts of an exported module for one of its modes."""
    text: str = getattr(module, MIXED, "")
    others, undone = json.loads(text)[MODE_NAMES[training]] if text else ((), ())
    return PartModes(tuple(others), tuple(undone))


def set_parts(module: nn.Module, training: bool, modes: PartModes) -> None:
    """Sets the modes of all parts of a module."""
    for name, part in module.named_modules():
        part.training = training != (name in modes.others)


def restore_parts(module: nn.Module) -> None:
    """Sets the parts of a module that are not in the mode of the module, after that was set.

    An exported module keeps how they were captured, and a scripted one what a `train` of its own did.
    """
    if getattr(module, MIXED, ""):
        set_parts(module, module.training, _read(module, module.training))


def misfit_of_mode(module: nn.Module, training: bool | None) -> str:
    """Says why an exported module cannot run in a mode. "" if it can, or if it was not exported.

    Args:
        training: the mode that is to be set. None: the one that it is in.
    """
    modes: str | None = getattr(module, MODES, None)
    if modes is None:
        return ""
    wanted = MODE_NAMES[module.training if training is None else training]
    if wanted not in modes.split(" and "):
        if getattr(module, COMPILED, False):
            return (
                f"the module was compiled in {modes} mode alone, so it cannot run in {wanted} mode; call "
                f".{SETS[wanted]} before it is compiled, and host that one"
            )
        return (
            f"the module was exported in {modes} mode alone, so it cannot run in {wanted} mode; call .{SETS[wanted]} "
            "before it is exported, or export both modes with torchremote.exported(..., both_modes=True)"
        )
    if training is not None:
        return words_of_undone(_read(module, training), training)
    others = _read(module, module.training).others
    was = {name: module.training != (name in others) for name, _ in module.named_modules()}
    wrong = [name for name, part in module.named_modules() if part.training != was[name]]
    names, captured = _alike(wrong, was)
    if not names:
        return ""
    is_now = MODE_NAMES[not captured]
    return (
        f"{_listed(names)} exported in {MODE_NAMES[captured]} mode, and {_plural(names, 'is', 'are')} now in {is_now} "
        "mode, which the graphs do not have; set the modes of parts before the module is exported"
    )


def words_of_undone(modes: PartModes, training: bool) -> str:
    """Words which parts a module's `train` would set to another mode than was captured. "" if it would set none."""
    names, captured = _alike(modes.undone, {name: training != (name in modes.others) for name in modes.undone})
    if not names:
        return ""
    sets, kept = SETS[MODE_NAMES[training]], MODE_NAMES[captured]
    return (
        f"{_listed(names)} exported in {kept} mode, and {sets} would set {_plural(names, 'it', 'them')} to "
        f"{MODE_NAMES[not captured]} mode, which the graphs do not have; call .{sets} before the module is exported, "
        "or give its class a train() that leaves the part as it is"
    )


def _alike(names: Sequence[str], captured: Mapping[str, bool]) -> tuple[list[str], bool]:
    """Returns the names of parts that were captured in the same mode as the first, and that mode."""
    if not names:
        return [], False
    mode = captured[names[0]]
    alike = {name: None for name in names if captured[name] == mode}
    return list(_topmost(alike)), mode


def _topmost(names: Mapping[str, None]) -> Iterator[str]:
    """Yields names without those of parts of parts that are there, too."""
    return (name for name in names if not name or name.rpartition(".")[0] not in names)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(name or "the module itself" for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{_plural(names, 'part', 'parts')} {shown}{more} {_plural(names, 'was', 'were')}"


def _plural(names: Sequence[str], one: str, several: str) -> str:
    return one if len(names) == 1 else several


def other_mode(where: str, training: bool, is_compiled: bool) -> str:
    """Words what a method raises in the mode that it has no graphs for. `training`: the one that it has."""
    was = MODE_NAMES[training]
    if is_compiled:
        return f"{where}: the module was compiled in {was} mode, and is in the other; call {SETS[was]}"
    return (
        f"{where}: the module was exported in {was} mode, and is in the other; call {SETS[was]}, or export both with "
        "torchremote.exported(..., both_modes=True)"
    )
