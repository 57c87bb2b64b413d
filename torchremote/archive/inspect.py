"""Lists the stubs in an archive without running anything of it: an archive may come from anywhere.

A TorchScript archive is a zip file. The state of its modules is a pickle, data.pkl. This file runs the pickle on a
machine of its own, which knows the operations that torch writes, makes inert objects, and looks up no class or function
that the pickle names. So a hostile file, or one that is no archive, is an error, in bounded time and memory.
"""

from __future__ import annotations

import os
import pickletools
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from os import PathLike
from typing import IO, Any, Final, cast

from ..errors import ArchiveError
from ..jit import Interface
from ..jit.read.parse import defined_by, parse_interface, written_out

# Limits of a file. One with more is refused, so that no file takes long to inspect, and no answer long to read.
_LIMIT: Final = 64 << 20  # bytes of data.pkl, which holds everything but tensors
_DIRECTORY_AT_MOST: Final = 8 << 20  # bytes of the zip file's directory, with some 80 a file
_OPERATIONS_AT_MOST: Final = 2_000_000  # about five an attribute
_PATH_AT_MOST: Final = 10_000  # characters
_CLASS_AT_MOST: Final = 10_000  # characters of the name of a class
_DECLARED_AT_MOST: Final = 1_000_000  # characters of all declarations, each named type written out where it is named
_SAID_AT_MOST: Final = 2_000_000  # characters that are said of all stubs
_ERROR_AT_MOST: Final = 1_000  # characters

_STUB: Final = re.compile(r"__torch__\.torchremote\.(?:protocol_\d+\.)?(\w+)\.stub\.(?:___torch_mangle_\d+\.)?Stub")


@dataclass(frozen=True)
class SavedStub:
    """Says what an archive holds of a stub."""

    path: str  # of attributes that lead to it, as "encoder" or "towers.0"; "" when the archive is of the stub itself
    protocol: int  # that of the release that saved it
    interface: Interface
    worker: str
    name: str
    timeout: float | None  # seconds; None: RPC's own default

    def __str__(self) -> str:
        timeout = "RPC's default" if self.timeout is None else f"{self.timeout:g} s" if self.timeout else "none"
        qualified_name = self.interface.qualified_name.removeprefix("__torch__.")
        methods = "".join(f"\n  {_printable(line)}" for line in self.interface.declaration.split("\n"))
        return (
            f"{_printable(self.path) or '(the archive itself)'}: {_printable(qualified_name)}\n"
            f"  worker {_printable(repr(self.worker))}, name {_printable(repr(self.name))}, timeout {timeout}, "
            f"digest {self.interface.digest}, protocol {self.protocol}{methods}"
        )


def stubs_in_archive(file: str | PathLike[str] | IO[bytes]) -> list[SavedStub]:
    """Lists the stubs in a file that `torch.jit.save` wrote. Connects to nothing, and runs nothing of the file.

    Args:
        file: a path, or a file open for reading in binary mode.

    Returns:
        Of each stub the path of attributes that leads to it, and what it was saved with.

    Raises:
        OSError: the file cannot be read.
        ArchiveError: it is no TorchScript archive, or what is in it is not what torch and torchremote write.
    """
    shown = _printable(os.fspath(file)) if isinstance(file, (str, PathLike)) else "file"
    if isinstance(file, (str, PathLike)) and os.path.exists(file) and not os.path.isfile(file):
        raise ArchiveError(f"{shown} is no file")
    try:
        if not isinstance(file, (str, PathLike)):
            return list(_find(_state(_data(file))))
        with open(file, "rb") as opened:
            return list(_find(_state(_data(opened))))
    except OSError:
        raise
    except Exception as error:  # zipfile and this file's machine raise whatever a damaged file makes them
        told = str(error) if isinstance(error, ArchiveError) else f"{type(error).__name__}: {error}"
        said = _printable(told[:_ERROR_AT_MOST])
        raise ArchiveError(f"{shown}: not a TorchScript archive, or a damaged one: {said}") from None


def _printable(text: str) -> str:
    """Returns `text` without the characters that a terminal would obey, or that would begin a line."""
    return text if text.isprintable() else "".join(part if part.isprintable() else ascii(part)[1:-1] for part in text)


class _Bounded:
    """A file that refuses to be read in large pieces. zipfile reads a directory of any length at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self._read = file.read

    def read(self, size: int = -1) -> bytes:
        if size > _DIRECTORY_AT_MOST:
            raise ArchiveError(f"its directory has more than {_DIRECTORY_AT_MOST} bytes")
        return self._read(size)


def _data(file: IO[bytes]) -> bytes:
    with zipfile.ZipFile(cast(IO[bytes], _Bounded(file))) as archive:
        found = [entry for entry in archive.infolist() if re.fullmatch(r"[^/]+/data\.pkl", entry.filename)]
        if len(found) != 1:
            raise ArchiveError(f"{len(found)} files in it are its data.pkl")
        if found[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # zipfile unpacks other kinds without a limit.
            raise ArchiveError("its data.pkl is compressed as torch does not")
        with archive.open(found[0]) as data:
            content = data.read(_LIMIT + 1)
    if len(content) > _LIMIT:
        raise ArchiveError(f"its data.pkl has more than {_LIMIT} bytes")
    return content


class _Object:
    """Stands for anything that the pickle names: it has the parts that it was made of, and its state."""

    def __init__(self, name: str, parts: list[object]) -> None:
        self.name = name
        self.parts = parts


def _state(data: bytes) -> object:
    """Runs the pickle's program.

    Values are constants, tuples, lists, `_Object`s, and dicts as lists of their items. Nothing is hashed or compared,
    so that no nesting does harm.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: list[object] = []
    end = count = 0

    def since_mark() -> list[Any]:
        start = marks.pop()
        parts = stack[start:]
        del stack[start:]
        return parts

    for operation, argument, at in pickletools.genops(data):
        end, count = at or 0, count + 1
        if count > _OPERATIONS_AT_MOST:
            raise ArchiveError(f"more than {_OPERATIONS_AT_MOST} operations in its data.pkl")
        match operation.name:
            case "PROTO" | "STOP":
                pass
            case (
                "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE" | "BINSTRING" | "SHORT_BINSTRING"
            ):
                stack.append(argument)
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(operation.name == "NEWTRUE")
            case "GLOBAL":
                name = str(argument)
                if len(name) > _CLASS_AT_MOST:
                    raise ArchiveError(f"a class whose name has more than {_CLASS_AT_MOST} characters")
                stack.append(name.replace(" ", "."))
            case "MARK":
                marks.append(len(stack))
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                marks.append(len(stack) - int(operation.name[-1]))
                stack.append(tuple(since_mark()))
            case "EMPTY_LIST" | "EMPTY_DICT":
                stack.append([])
            case "APPEND":
                stack[-2].append(stack.pop())
            case "APPENDS":
                parts = since_mark()
                stack[-1].extend(parts)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _items(stack[-1]).append((key, value))
            case "SETITEMS":
                parts = since_mark()
                _items(stack[-1]).extend(zip(parts[::2], parts[1::2], strict=True))
            case "NEWOBJ" | "REDUCE":
                arguments, name = stack.pop(), stack.pop()
                if not isinstance(name, str):
                    raise ArchiveError("an object of no class")
                stack.append(_Object(name, [arguments]))
            case "BUILD":
                state = stack.pop()
                stack[-1].parts.append(state)
            case "BINPERSID":
                stack[-1] = None  # a tensor's storage
            case "BINPUT" | "LONG_BINPUT":
                if argument != len(memo):
                    raise ArchiveError("its objects are not numbered as torch does")
                memo.append(stack[-1])
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument or 0])
            case other:
                raise ArchiveError(f"torch writes no {other}")
    if end != len(data) - 1 or len(stack) != 1 or not isinstance(stack[0], _Object):
        raise ArchiveError("its data.pkl is no module")
    return stack[0]


def _items(holder: Any) -> list[Any]:
    items: list[Any] = holder.parts if isinstance(holder, _Object) else holder
    return items


_Path = tuple["_Path | None", str]
"""The path of attributes to a part: that of its parent, and the attribute there. It is written out where it is said."""


def _find(state: object) -> Iterator[SavedStub]:
    waiting: list[tuple[_Path | None, int, object]] = [(None, 0, state)]
    seen: set[int] = set()  # modules may be shared, and a hostile file may share them without end
    stubs: dict[int, SavedStub] = {}
    scopes: dict[str, str | None] = {}  # by the name of a class
    interfaces = _Interfaces()
    said = 0
    while waiting:
        path, length, part = waiting.pop()
        if not isinstance(part, _Object):
            continue
        if part.name not in scopes:
            matched = _STUB.fullmatch(part.name)
            scopes[part.name] = matched and matched[1]
        if scope := scopes[part.name]:
            if id(part) not in stubs:
                stubs[id(part)] = _read(_text(path), scope, part, interfaces)
            found = replace(stubs[id(part)], path=_text(path))
            said += length + len(found.interface.declaration) + len(found.worker) + len(found.name)
            said += len(found.interface.qualified_name)
            if said > _SAID_AT_MOST:
                raise ArchiveError(f"more than {_SAID_AT_MOST} characters would be said of its stubs")
            yield found
        elif id(part) not in seen and len(part.parts) == 2 and isinstance(part.parts[1], list):
            seen.add(id(part))
            for item in reversed(part.parts[1]):
                match item:
                    case (str() as name, _Object() as child):
                        longer = length + len(name) + 1
                        if longer > _PATH_AT_MOST or not re.fullmatch(r"[\w.]+", name):
                            raise ArchiveError(f"{_text(path)[:80]!r}, {name[:80]!r}: no path of attributes")
                        waiting.append(((path, name), longer, child))


def _text(path: _Path | None) -> str:
    names: list[str] = []
    while path is not None:
        path, name = path
        names.append(name)
    return ".".join(reversed(names))


class _Interfaces:
    """Reads the interfaces of an archive's stubs, each once."""

    def __init__(self) -> None:
        self._read: dict[tuple[str, str], Interface] = {}
        self._declared = 0

    def read(self, name: str, declaration: str) -> Interface:
        """Returns the interface. Raises ValueError if it cannot be read, and ArchiveError if there is too much to."""
        if (name, declaration) not in self._read:
            self._count(declaration)
            self._read[name, declaration] = parse_interface(name, declaration)
        return self._read[name, declaration]

    def _count(self, declaration: str) -> None:
        sizes: dict[str, int] = {}
        for line in declaration.split("\n"):
            size = written_out(line, sizes)
            if "Union[" in line:
                size += line.count(",") ** 2  # each of its members is compared with each other one
            self._declared += size
            if self._declared > _DECLARED_AT_MOST:
                raise ArchiveError(f"its stubs declare more than {_DECLARED_AT_MOST} characters")
            if (named := defined_by(line)) is not None:
                sizes[named] = size


def _read(path: str, scope: str, stub: _Object, interfaces: _Interfaces) -> SavedStub:
    where = path or "(the archive itself)"
    match stub.parts:
        case [(), (tuple() as address, bool())]:
            if len(address) == 5:
                address = 1, *address  # torchremote 0.1.0 saved no number
            match address:
                case (int() as protocol, str() as name_of_interface, str() as declaration, str(), str(), float()):
                    *_, worker, name, timeout = address
                    try:
                        interface = interfaces.read(name_of_interface, declaration)
                    except ArchiveError:  # a ValueError, too
                        raise
                    except ValueError as error:
                        raise ArchiveError(f"{where}: not written by a torchremote like this: {error}") from error
                    if scope == f"{interface.name}_{interface.digest}":
                        return SavedStub(path, protocol, interface, worker, name, None if timeout < 0 else timeout)
    raise ArchiveError(f"{where}: a stub whose state was not written by torchremote")
