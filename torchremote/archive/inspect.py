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
from typing import IO, Any, Final

from ..errors import ArchiveError
from ..jit import Interface
from ..jit.read.parse import parse_interface

_LIMIT: Final = 64 << 20  # bytes of data.pkl, which holds everything but tensors
_STUB: Final = re.compile(r"__torch__\.torchremote\.(?:protocol_\d+\.)?(\w+)\.stub\.(?:___torch_mangle_\d+\.)?Stub")
_OPERATIONS_AT_MOST: Final = 2_000_000  # about five an attribute
_PATH_AT_MOST: Final = 10_000  # characters


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
        methods = "".join(f"\n  {line}" for line in self.interface.declaration.split("\n"))
        return _printable(
            f"{self.path or '(the archive itself)'}: {qualified_name}\n"
            f"  worker {self.worker!r}, name {self.name!r}, timeout {timeout}, digest {self.interface.digest}, "
            f"protocol {self.protocol}{methods}"
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
    if isinstance(file, (str, PathLike)) and os.path.exists(file) and not os.path.isfile(file):
        raise ArchiveError(f"{os.fspath(file)} is no file")
    try:
        return list(_find(_state(_data(file))))
    except OSError:
        raise
    except ArchiveError as error:
        raise ArchiveError(f"not a TorchScript archive, or a damaged one: {error}") from None
    except Exception as error:  # zipfile and this file's machine raise whatever a damaged file makes them
        raise ArchiveError(f"not a TorchScript archive, or a damaged one: {type(error).__name__}: {error}") from error


def _printable(text: str) -> str:
    """Returns `text` without the characters that a terminal would obey."""
    return "".join(part if part.isprintable() or part == "\n" else ascii(part)[1:-1] for part in text)


def _data(file: str | PathLike[str] | IO[bytes]) -> bytes:
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if re.fullmatch(r"[^/]+/data\.pkl", name)]
        if len(names) != 1:
            raise ArchiveError(f"{len(names)} files in it are its data.pkl")
        with archive.open(names[0]) as data:
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
    """Runs the pickle's program. Values are constants, tuples, lists, `_Object`s, and dicts as lists of their items;
    nothing is hashed or compared, so that no nesting does harm."""
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
                stack.append(str(argument).replace(" ", "."))
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


def _find(state: object) -> Iterator[SavedStub]:
    waiting: list[tuple[str, object]] = [("", state)]
    seen: set[int] = set()  # modules may be shared, and a hostile file may share them without end
    stubs: dict[int, SavedStub] = {}
    while waiting:
        path, part = waiting.pop()
        if not isinstance(part, _Object):
            continue
        if stub := _STUB.fullmatch(str(part.name)):
            if id(part) not in stubs:
                stubs[id(part)] = _read(path, stub[1], part)
            yield replace(stubs[id(part)], path=path)
        elif id(part) not in seen and len(part.parts) == 2 and isinstance(part.parts[1], list):
            seen.add(id(part))
            for item in reversed(part.parts[1]):
                match item:
                    case (str() as name, _Object() as child):
                        waiting.append((_longer(path, name), child))


def _longer(path: str, name: str) -> str:
    longer = f"{path}.{name}" if path else name
    if len(longer) > _PATH_AT_MOST or not re.fullmatch(r"[\w.]+", name):
        raise ArchiveError(f"{longer[:80]!r}: no path of attributes")
    return longer


def _read(path: str, scope: str, stub: _Object) -> SavedStub:
    match stub.parts:
        case [(), (tuple() as address, bool())]:
            if len(address) == 5:
                address = 1, *address  # torchremote 0.1.0 saved no number
            match address:
                case (int() as protocol, str() as name_of_interface, str() as declaration, str(), str(), float()):
                    *_, worker, name, timeout = address
                    try:
                        interface = parse_interface(name_of_interface, declaration)
                    except ValueError as error:
                        raise ArchiveError(f"{path}: not written by a torchremote like this: {error}") from error
                    if scope == f"{interface.name}_{interface.digest}":
                        return SavedStub(path, protocol, interface, worker, name, None if timeout < 0 else timeout)
    raise ArchiveError(f"{path}: a stub whose state was not written by torchremote")
