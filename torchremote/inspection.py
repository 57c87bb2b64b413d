"""What stubs an archive holds, read without running anything of it: archives may come from anywhere.

A TorchScript archive is a zip file; the state of its modules is in data.pkl, a pickle. Here no class or function that
it names is ever looked up. Whatever it builds is an inert `_Object`, and every operation has to be one that torch
writes: so a file that is no archive, or a hostile one, is an error, and nothing else.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from typing import IO, Any, Final

from .errors import ArchiveError
from .jit import Interface
from .jit.parse import parse_interface

_LIMIT: Final = 1 << 28  # bytes of data.pkl, which holds everything but tensors
_STUB: Final = re.compile(r"__torch__\.torchremote\.(\w+)\.stub\.(?:___torch_mangle_\d+\.)?Stub")
# What torch's pickler writes.
_OPERATIONS: Final = frozenset(
    "PROTO STOP MARK GLOBAL NEWOBJ REDUCE BUILD BINPERSID BINPUT LONG_BINPUT BINGET LONG_BINGET "
    "NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE BINSTRING SHORT_BINSTRING "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS".split()
)


@dataclass(frozen=True)
class SavedStub:
    """A stub in an archive."""

    path: str  # of attributes that lead to it, as "encoder" or "towers.0"; "" when the archive is of the stub itself
    interface: Interface
    worker: str
    name: str
    timeout: float | None  # seconds; None: RPC's own default

    def __str__(self) -> str:
        timeout = "RPC's default" if self.timeout is None else f"{self.timeout:g} s" if self.timeout else "none"
        qualified_name = self.interface.qualified_name.removeprefix("__torch__.")
        methods = "".join(f"\n  {line}" for line in self.interface.declaration.split("\n"))
        return (
            f"{self.path or '(the archive itself)'}: {qualified_name}\n"
            f"  worker {self.worker!r}, name {self.name!r}, timeout {timeout}, digest {self.interface.digest}{methods}"
        )


def stubs_in_archive(file: str | PathLike[str] | IO[bytes]) -> list[SavedStub]:
    """The stubs in a file that torch.jit.save wrote, found without connecting to anything or running any of its code.

    Raises:
        OSError: the file cannot be read.
        ArchiveError: it is no TorchScript archive, or what is in it is not what torch and torchremote write.
    """
    try:
        return list(_find(_state(_data(file))))
    except (ArchiveError, OSError):
        raise
    except Exception as error:  # zipfile and pickle raise whatever a damaged file makes them
        raise ArchiveError(f"not a TorchScript archive, or a damaged one: {type(error).__name__}: {error}") from error


def _data(file: str | PathLike[str] | IO[bytes]) -> bytes:
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if re.fullmatch(r"[^/]+/data\.pkl", name)]
        if len(names) != 1:
            raise ArchiveError(f"not a TorchScript archive: {len(names)} files in it are its data.pkl")
        with archive.open(names[0]) as data:
            content = data.read(_LIMIT + 1)
    if len(content) > _LIMIT:
        raise ArchiveError(f"not a TorchScript archive: its data.pkl has more than {_LIMIT} bytes")
    return content


class _Object:
    """What the pickle builds in place of anything that it names: it remembers, and does nothing."""

    qualified_name = ""
    parts: list[object]

    def __new__(cls, *arguments: object) -> _Object:
        made = super().__new__(cls)
        made.parts = list(arguments)
        return made

    def __setstate__(self, state: object) -> None:
        self.parts.append(state)

    def __setitem__(self, key: object, value: object) -> None:
        self.parts += (key, value)

    def append(self, value: object) -> None:
        self.parts.append(value)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return type("_Object", (_Object,), {"qualified_name": f"{module}.{name}"})

    def persistent_load(self, pid: object) -> Any:
        return None  # a tensor's storage


def _state(data: bytes) -> object:
    known, end = 0, -1
    for operation, argument, at in pickletools.genops(data):
        end = at or 0
        if operation.name not in _OPERATIONS:
            raise ArchiveError(f"not a TorchScript archive: torch writes no {operation.name}")
        if operation.name.endswith("BINPUT"):
            # Python makes room for the whole memo up to a number; torch counts from nought.
            if argument != known:
                raise ArchiveError("not a TorchScript archive: its objects are not numbered as torch does")
            known += 1
    state = _Unpickler(io.BytesIO(data)).load()
    if end != len(data) - 1 or not isinstance(state, _Object):
        raise ArchiveError("not a TorchScript archive: its data.pkl is no module")
    return state


def _find(state: object) -> Iterator[SavedStub]:
    waiting: list[tuple[str, object]] = [("", state)]
    seen: set[int] = set()  # modules may be shared, and a hostile file may share them without end
    while waiting:
        path, part = waiting.pop()
        if not isinstance(part, _Object):
            continue
        if stub := _STUB.fullmatch(part.qualified_name):
            yield _read(path, stub[1], part)
        elif id(part) not in seen and len(part.parts) == 1 and isinstance(part.parts[0], dict):
            seen.add(id(part))
            attributes = reversed(part.parts[0].items())
            waiting += [(f"{path}.{name}" if path else str(name), value) for name, value in attributes]


def _read(path: str, scope: str, stub: _Object) -> SavedStub:
    match stub.parts:
        case [
            (
                (str() as qualified_name, str() as declaration, str() as worker, str() as name, float() as timeout),
                bool(),
            )
        ]:
            try:
                interface = parse_interface(qualified_name, declaration)
            except ValueError as error:
                raise ArchiveError(f"{path}: not written by a torchremote like this: {error}") from error
            if scope == f"{interface.name}_{interface.digest}":
                return SavedStub(path, interface, worker, name, None if timeout < 0 else timeout)
    raise ArchiveError(f"{path}: a stub whose state was not written by torchremote")
