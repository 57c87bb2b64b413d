"""The optional part in C++: with it, calls do not wait for the caller's Python, nor modules for another's turn.

caller.cpp, following.cpp and route.cpp are for callers; strand.cpp, threads.cpp and counting.cpp for owners; each says
how. tensors.cpp looks at the tensors that are sent, and compiled.cpp runs what AOTInductor compiled.

It is built once for a torch and a Python, into the user's cache, and found there on import. Without it, everything
works the same, but `compiled`, which needs compiled.cpp. The compiler, `caller` and `owner` ask this file which of the
two it is.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import torch

from .. import _torch
from ..errors import NativeError

SWITCH: Final = "TORCHREMOTE_NATIVE"
"""The environment variable: "0" leaves the part alone; with "1", an import fails that does not find it."""
COMMAND: Final = "python -m torchremote build-native"
NAMESPACE: Final = "torchremote_native"
_HERE: Final = Path(__file__).parent
SOURCES: Final = tuple(sorted(_HERE.glob("*.cpp")))
HEADERS: Final = tuple(sorted(_HERE.glob("*.h")))


def available() -> bool:
    """Says whether this process uses the native part.

    >>> available() or "is not built" in why() or "TORCHREMOTE_NATIVE=0" in why()
    True
    """
    return _library is not None


def why() -> str:
    """Says whether the native part is used, and why, in words for the user."""
    return _why


def library() -> Path:
    """Returns the path that the library has once it is built: one for each source, torch and Python.

    Raises:
        NativeError: this user has no home directory, and the environment names no cache.
    """
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        raise NativeError(f"there is no folder for it: {str(error).rstrip('.')}; name one in XDG_CACHE_HOME") from error
    source = b"".join(path.read_bytes() for path in (*SOURCES, *HEADERS))
    digest = hashlib.blake2b(source, digest_size=8).hexdigest()
    return cache / "torchremote" / "native" / f"{torch.__version__}-{sys.implementation.cache_tag}-{digest}.so"


def build() -> Path:
    """Compiles the native part into the user's cache, which takes a minute or two. Does nothing if it is there already.

    Processes that import torchremote from then on use it.

    Returns:
        The path of the library.

    Raises:
        NativeError: something is missing, or the source does not compile; the message says what.
    """
    built = library()
    try:
        if built.exists():
            return built
        cpp_extension = _tools()
        built.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=built.parent) as folder:
            try:
                cpp_extension.load(
                    NAMESPACE,
                    [*map(str, SOURCES)],
                    extra_cflags=["-O2"],
                    build_directory=folder,
                    with_cuda=False,
                    is_python_module=False,
                )
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                raise NativeError(f"build-native: {_HERE} does not compile here: {error}") from error
            Path(folder, f"{NAMESPACE}.so").replace(built)  # at once: others may be looking for it
    except OSError as error:
        raise NativeError(f"build-native: {built.parent}: {error}; name another folder in XDG_CACHE_HOME") from error
    return built


def _tools() -> ModuleType:
    """Returns torch's cpp_extension, if what it needs is here."""
    try:
        from torch.utils import cpp_extension  # not on import: it imports setuptools, which takes long
    except ImportError as error:
        raise NativeError(f"build-native: torch builds with setuptools: {error}; pip install setuptools") from error
    # pip puts ninja beside Python, which is in PATH only where the environment is activated.
    beside, path = str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)
    if beside not in path.split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([beside, path])
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler) is None:
        raise NativeError(f"build-native: no {compiler} here; install a C++ compiler, as g++, or name yours in CXX")
    if not cpp_extension.is_ninja_available():
        raise NativeError("build-native: no ninja here, which torch builds with; pip install ninja")
    return cpp_extension


def _load() -> tuple[Path | None, str]:
    """Loads the library if it is built. Returns its path if it did, and what `why` says.

    Raises:
        ImportError: it is demanded, and not there.
    """
    switch = os.environ.get(SWITCH, "")
    if switch == "0":
        return None, f"not used: {SWITCH}=0"
    said = f"not used: it is not built; `{COMMAND}` does that"
    try:
        built = library()
        is_built = built.exists()
    except (NativeError, OSError) as error:  # the cache may be another user's
        is_built, said = False, f"not used: {error}"
    if is_built:
        try:
            torch.ops.load_library(built)
        except OSError as error:
            said = f"not used: {built} cannot be loaded: {error}; delete it, and run `{COMMAND}`"
        else:
            return built, f"used: {built}"
    if switch == "1":
        # The command imports this, too.
        raise ImportError(f"{SWITCH}=1: the native part is {said.replace(COMMAND, f'{SWITCH}= {COMMAND}')}")
    return None, said


_library, _why = _load()


def _operator(name: str) -> Callable[..., Any]:
    return _torch.operator(f"{NAMESPACE}::{name}") if _library else _not_loaded


def _function(name: str) -> Callable[..., int]:
    return getattr(ctypes.PyDLL(str(_library)), name) if _library else _not_loaded


def _not_loaded(*_: object) -> Any:
    raise NativeError(f"the native part is {_why}")


def new_counts() -> Any:
    """Returns an object in which the calls of one module are counted. Its `read(method)` gives the numbers."""
    return getattr(torch.classes, NAMESPACE).Counts()


wait_in_next_call: Final = _function("torchremote_wait_in_next_call")
"""Has the next call of this thread wait for its answer, for so many seconds at most, before it returns the Future. Does
nothing, and returns 0, under a profiler, a transform of torch.func, a mode of torch's or autocast. The seconds are a
`ctypes.c_double`: to convert a number takes time, and fails where the recursion limit is near."""
do_not_wait: Final = _function("torchremote_do_not_wait")
"""Takes `wait_in_next_call` back: nothing was sent."""
wait_for: Final = _operator("wait_for")
"""Waits for a Future, at most for so many seconds, without the GIL. Returns whether it has a value or an error."""
pass_on: Final = _operator("pass_on")
"""Gives the second Future the value of the first when that is there, or None for an error; without the GIL."""
forget_strands: Final = _operator("forget_strands")
"""Forgets the strands of modules that are gone. Until then, what is in these modules is kept."""
next_failed: Final = _operator("next_failed")
"""Waits for a call by a route that failed, without the GIL, and returns it: see following.cpp."""
rest_failed: Final = _operator("rest_failed")
"""Has calls that failed, and the threads that deal with them, rest until the process ends."""
forget_failed: Final = _operator("forget_failed")
"""Has a process that was just forked know nothing of the calls of its parent."""
join_strand: Final = _operator("join_strand")
"""Returns the strand in which the calls of a module run in turn; the module is given as its object in C++. It is the
given strand, or that of a module that shares a part, or a new one. Returns None if its parts have different ones."""


def package(archive: torch.Tensor, device: str) -> Any:
    """Makes an object of TorchScript that runs what AOTInductor compiled. `archive`: the bytes of its file.

    Raises:
        NativeError: the native part is not in use.
    """
    if not _library:
        raise NativeError(f"a compiled module needs the native part, which is {_why}")
    return getattr(torch.classes, NAMESPACE).Package(archive, device)
