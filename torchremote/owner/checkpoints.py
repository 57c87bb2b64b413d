"""Writes the states of hosted modules to files, and reads them when a module is made again."""

from __future__ import annotations

import copy
import errno
import io
import os
import pickle
import re
import secrets
import socket
import stat
import weakref
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import torch

from ..errors import ArgumentError, CreationError, MismatchError, RemoteError
from ..jit.read.shown import repr_of
from ..link.words import words_of
from . import modules
from .overlaps import check_can_be_written
from .running.hosting import Hosting
from .state_names import differences, inner_states, misfits_of_kind, state_of, versions_in

_FULL: Final = {
    errno.ENOSPC: "make room on the owner, or write elsewhere",
    errno.EDQUOT: "the quota is used up; make room on the owner, or write elsewhere",
    errno.EFBIG: "start the owner with a higher `ulimit -f`, or write to a file system that takes such files",
}
_NO_FOLDER: Final = "its folder is not there; make it on the owner"
_ANEW: Final = "move it away to begin without it"

_path_of: weakref.WeakKeyDictionary[torch.nn.Module, str] = weakref.WeakKeyDictionary()
"""For each module that has a checkpoint of its own: where that is."""


def check_path(path: object, argument: str = "checkpoint") -> str | None:
    """Returns the path that a user gave as a string. Raises ArgumentError if it is none. `argument`: its name."""
    if path is None:
        return None
    try:
        text = os.fspath(path)  # type: ignore[call-overload]
    except TypeError:
        text = None
    if not isinstance(text, str) or not text or not _may_be_path(text):
        raise ArgumentError(
            f"{argument}={repr_of(path)}: not a path; write one as a string, such as '/data/encoder.pt'"
        )
    return text


def _may_be_path(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def restore(module: torch.jit.ScriptModule, path: str) -> None:
    """Gives a module the state of its checkpoint, if there is one, and remembers where that is.

    Raises:
        CreationError: the file cannot be read, or its folder is not there.
        ArgumentError: the module's state is not here.
        MismatchError: the state in it is not that of such a module. Nothing was changed.
        NotSavableError: the module has no whole state, or elements of a tensor of it share memory.
    """
    path = os.path.abspath(path)
    state = state_of(module)
    check_can_be_written(state)  # also before the first checkpoint: it could not be read
    if os.path.exists(path):
        saved = _read(path)
        wrong = differences(state, versions_in(module), saved)
        wrong = wrong or misfits_of_kind(state, saved)  # before the first is copied
        if wrong:
            raise MismatchError(
                f"checkpoint {path!r} does not fit the module: {wrong}; create the module from which it was "
                "written, or name another file"
            )
        with torch.no_grad():
            for name, value in state.items():
                value.copy_(saved[name])
    elif not os.path.isdir(os.path.dirname(path)):
        raise CreationError(f"checkpoint {path!r}: {_NO_FOLDER}")
    _path_of[module] = path


def _read(path: str) -> Mapping[str, torch.Tensor]:
    """Reads a state. Raises CreationError if there is none in the file, or not what was written."""
    try:
        damaged = _damaged_part(path)
        if damaged is not None:
            raise CreationError(
                f"checkpoint {path!r} is damaged: {damaged!r} in it is not what was written; put a copy of the file "
                f"in its place, or {_ANEW}"
            )
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except CreationError:
        raise
    except Exception as error:  # torch and pickle raise all kinds for what is no checkpoint
        # Of what is no file of tensors, torch says at length how to run what is in it.
        said = "" if isinstance(error, pickle.UnpicklingError) else f"\n\n{words_of(error)}"
        raise CreationError(f"checkpoint {path!r} cannot be read ({type(error).__name__}); {_ANEW}{said}") from error
    if not isinstance(saved, Mapping) or not all(isinstance(value, torch.Tensor) for value in saved.values()):
        inner = " or ".join(inner_states(saved))
        remedy = f"save its {inner} alone, there or in another file, or {_ANEW}" if inner else _ANEW
        raise CreationError(f"checkpoint {path!r} is no mapping of tensors; {remedy}")
    return saved


def _damaged_part(path: str) -> str | None:
    """Returns the name of a part of a file of torch.save that has another checksum than was written with it.

    torch.load does not look at them. Files of before torch 1.6 are no zip files, and have none.
    """
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as parts:
        if not any(part.CRC for part in parts.infolist()):  # torch.serialization.set_crc32_options(False)
            return None
        return parts.testzip()


def copy_path(copied: torch.jit.ScriptModule, module: torch.jit.ScriptModule) -> None:
    """Makes the checkpoint of `module` also that of a copy of it."""
    path = _path_of.get(module)
    if path is not None:
        _path_of[copied] = path


def checkpoint_here(handle: int, path: str | None) -> None:
    """Writes a module's state to a file. A link is followed, and a file that is replaced hands on its mode.

    Args:
        handle: that of the stub that was given to `at_owner`.
        path: None writes where the module's own checkpoint is.

    Raises:
        ArgumentError: the module has none.
        NotSavableError: `restore` could not read the file.
        RemoteError: the file cannot be written.
    """
    entry, _ = modules.entry_at(handle)
    own, state = modules.between_calls(entry, _path_and_state)  # of one module: another may come at any time
    path = own if path is None else path
    if path is None:
        raise ArgumentError(
            "checkpoint(): the module was made without a checkpoint; give a path, or create or serve it with "
            "checkpoint=path"
        )
    target = os.path.realpath(path)
    try:
        _replace(state, target, path)
    except OSError as error:  # it names the unfinished file
        why = error.strerror or words_of(error)
        if not os.path.isdir(os.path.dirname(target)):
            why = _NO_FOLDER
        raise RemoteError(f"checkpoint({path!r}): {why}") from error


def _path_and_state(hosting: Hosting) -> tuple[str | None, dict[str, torch.Tensor]]:
    """Returns where the checkpoint of a hosted module is, if it has one, and the module's state.

    The state is copied if a call could change it while it is written.
    """
    state = state_of(hosting.module)
    check_can_be_written(state)
    if hosting.ways.takes_turns:
        state = copy.deepcopy(state)  # tensors that share memory go on sharing it
    return _path_of.get(hosting.module), state


def _replace(state: dict[str, torch.Tensor], target: str, path: str) -> None:
    """Writes a state to a new file, and puts that in the place of `target`. `path` names the file in errors."""
    old = os.stat(target) if os.path.exists(target) else None
    if old is not None and not stat.S_ISREG(old.st_mode):
        _write(state, target, path)  # a device or a pipe cannot be replaced; a folder raises
        return
    _remove_unfinished(target)
    unfinished = f"{target}.{_here()}.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        # From the beginning, nobody may read the new file who may not read the old one.
        new = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if old is None else 0o600)
        try:
            if old is not None:
                with suppress(OSError):  # only root may give a file away
                    os.fchown(new, old.st_uid, old.st_gid)
                os.fchmod(new, stat.S_IMODE(old.st_mode))
        except BaseException:
            os.close(new)
            raise
        _write(state, new, path)
        os.replace(unfinished, target)  # the old file stays until the new one is whole
    finally:
        if os.path.exists(unfinished):
            os.remove(unfinished)


def _here() -> str:
    """Names what numbers processes: this machine, or a container on it. A folder may be that of several."""
    namespace = os.readlink("/proc/self/ns/pid")
    return f"{zlib.crc32(f'{socket.gethostname()} {namespace}'.encode()):08x}"


def _remove_unfinished(target: str) -> None:
    """Removes what processes that were killed have begun to write beside `target`."""
    folder, name = os.path.split(target)
    pattern = re.compile(rf"{re.escape(name)}\.{_here()}\.([0-9]+)\.[0-9a-f]{{8}}")
    with suppress(OSError):  # it is no error of this checkpoint
        for other in os.listdir(folder):
            found = pattern.fullmatch(other)
            if found and not os.path.exists(f"/proc/{found[1]}"):
                os.remove(os.path.join(folder, other))


def _write(state: dict[str, torch.Tensor], file: str | int, path: str) -> None:
    """Saves a state to a file, or to an open descriptor, which it closes. `path` names the file in errors."""
    with _Written(file) as written:
        try:
            torch.save(state, written)
            written.flush()
            if isinstance(file, int):
                os.fsync(written.fileno())  # some file systems find out only now that there is no room
        except Exception as error:
            failure = written.failure or error  # torch hides the reason
            if isinstance(failure, OSError) and failure.errno in _FULL:
                raise RemoteError(
                    f"checkpoint({path!r}): {failure.strerror}; a file that was there is unchanged; "
                    f"{_FULL[failure.errno]}"
                ) from error
            raise failure from None


class _Written(io.FileIO):
    """A file that remembers the first error of writing to it."""

    def __init__(self, file: str | int) -> None:
        super().__init__(file, "wb")
        self.failure: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        written = 0
        try:
            while written < len(view):  # one write of an unbuffered file may take less than all
                written += super().write(view[written:]) or 0
        except OSError as error:
            self.failure = self.failure or error
            raise
        return written
