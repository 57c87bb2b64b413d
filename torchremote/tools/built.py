"""Makes the module that `torchremote serve` serves, and its interface: of a class, a factory, or a file."""

from __future__ import annotations

import json
import logging
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch.export.passes import move_to_device_pass

from .. import _torch
from ..errors import ArchiveError, CreationError, MismatchError, TorchRemoteError
from ..jit import compile_interface
from ..jit.export import interface_of
from ..jit.read.model import Interface
from ..link.places import check_device
from ..link.words import first_line
from ..owner.exported import check_movable, exported
from .targets import UsageError, find_class, find_object


def build_target(
    target: str, interface: str | None, args: Sequence[str], device: str | None, evaluation: bool
) -> tuple[torch.nn.Module, Any]:
    """Makes the module that a target names. Returns it, and its interface: a class, or for a program a model.

    Args:
        target: "package.module:Class" or "package.module:factory", or a `.pt` or `.pt2` file.
        interface: "package.module:Interface". A `.pt2` file needs none.
        args: arguments of the class or factory, as `value_of_text` reads them.
        device: where the module is to be. None: where it is made.
        evaluation: puts it into evaluation mode.

    Raises:
        UsageError: a file has `args`, or what needs an interface has none.
        TorchRemoteError: one of them names nothing, the file cannot be loaded, or the class raised.
    """
    place = None if device is None else check_device(device)
    suffix = pathlib.Path(target).suffix
    if suffix in (".pt", ".pt2") and args:
        raise UsageError(f"{target}: a file takes no --args")
    if suffix == ".pt2":
        named = None if interface is None else find_class(interface)  # it may register classes that the program has
        program = load_program(target)
        kind = program_interface(program, target) if named is None else named
        if place is not None:
            program = move_to_device_pass(program, place)
        methods = compile_interface(kind).interface.methods
        scripted = exported({methods[0].name: program}, kind)  # type: ignore[arg-type]
        return (scripted.eval() if evaluation else scripted), kind
    if interface is None:
        raise UsageError(f"{target}: name its interface: --interface package.module:Interface")
    cls = find_class(interface)
    module = _load_archive(target, place) if suffix == ".pt" else _call(target, args)
    if place is not None:
        if isinstance(module, torch.jit.ScriptModule):
            check_movable(module, place)
        module = module.to(place)
    return (module.eval() if evaluation else module), cls


def load_program(file: str) -> torch.export.ExportedProgram:
    """Loads what torch.export.save wrote. Raises ArchiveError if the file is something else."""
    with _logged_errors() as logged:
        try:
            return torch.export.load(file)
        except Exception as error:  # torch may raise anything for a file
            raise ArchiveError(
                f"{file}: torch.export cannot load it: {_reason(logged[0] if logged else error)}"
            ) from error


@contextmanager
def _logged_errors() -> Iterator[list[BaseException]]:
    """Collects the errors that torch.export logs with a traceback and does not raise, and keeps them out of the log."""
    errors: list[BaseException] = []

    def collect(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            errors.append(error)
        return error is None

    log = logging.getLogger("torch.export")
    log.addFilter(collect)
    try:
        yield errors
    finally:
        log.removeFilter(collect)


def _reason(error: BaseException) -> str:
    """Says why a program cannot be loaded, and what to do."""
    said = str(error)
    unknown = _UNKNOWN_CLASS.search(said)
    if unknown is not None:
        cls = unknown[1].rpartition(".")[2]
        return (
            f"it takes or returns a {unknown[1]}, which is not registered in this process; give --interface "
            f"package.module:Interface, and have that module call torch.export.register_dataclass({cls}, "
            f"serialized_type_name={unknown[1]!r})"
        )
    if "zip archive" in said:
        return "it is damaged, or no program; write it again with torch.export.save"
    return first_line(error)


_UNKNOWN_CLASS: Final = re.compile(r"Deserializing (\S+) in pytree (failed .*)?is not registered")


def program_interface(program: torch.export.ExportedProgram, file: str) -> Interface:
    """Makes the interface of a program that was loaded from `file`. Raises MismatchError if it has to be written."""
    name = "".join(one if one.isalnum() and one.isascii() else "_" for one in pathlib.Path(file).stem)
    try:
        return interface_of(program, f"Of_{name}")
    except MismatchError as error:
        raise MismatchError(
            f"{file}: {error}; torchremote serve takes it as --interface package.module:Interface"
        ) from error


def find_examples(target: str) -> Mapping[str, Any]:
    """Returns the examples that "package.module:examples" names: a mapping, or a function that returns one.

    Raises:
        TorchRemoteError: it names nothing, or something else.
        CreationError: the function raised.
    """
    found = find_object(target, "examples")
    if callable(found):
        try:
            found = found()
        except Exception as error:  # a user's code may raise anything
            raise CreationError(f"{target} raised {type(error).__name__}: {error}") from error
    if not isinstance(found, Mapping):
        raise TorchRemoteError(
            f"--examples {target}: {type(found).__name__} is no mapping; name one from each method to its arguments, "
            "as in {'forward': (x,)}, or a function that returns one"
        )
    return found


def value_of_text(text: str) -> Any:
    """Reads an argument of a class: JSON if it is that, or else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _load_archive(file: str, device: torch.device | None) -> torch.jit.ScriptModule:
    try:
        loaded: torch.jit.ScriptModule = _torch.load_scripted(file, device)
        return loaded
    except Exception as error:  # torch may raise anything for a file
        raise ArchiveError(
            f"{file}: torch.jit cannot load it: {first_line(error)}; write it with torch.jit.save, or serve a "
            "factory that builds the module and loads its state_dict"
        ) from error


def _call(target: str, args: Sequence[str]) -> torch.nn.Module:
    make = find_object(target, "Class")
    if not callable(make):
        raise TorchRemoteError(f"{target!r}: is a {type(make).__name__}, neither a class nor a factory")
    try:
        module = make(*map(value_of_text, args))
    except Exception as error:  # a user's code may raise anything
        raise CreationError(f"{target} raised {type(error).__name__}: {error}") from error
    if not isinstance(module, torch.nn.Module):
        raise CreationError(f"{target} made {type(module).__name__}, which is no torch.nn.Module")
    return module
