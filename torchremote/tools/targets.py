"""Finds what an argument of the command line names: a Python object, or a place in a group."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import NamedTuple

from ..errors import TorchRemoteError


class UsageError(TorchRemoteError):
    """Raised for a command that is written wrongly, where argparse cannot see it."""


class Served(NamedTuple):
    """A served module, and maybe a method of it, as the command line writes them: worker/name.method."""

    worker: str
    name: str
    method: str


def import_module(module: str, target: str) -> ModuleType:
    """Imports a module, of the current folder, too.

    Args:
        target: what the user wrote, for the error.

    Raises:
        UsageError: `module` cannot be the name of one.
        TorchRemoteError: there is no such module.
    """
    if not module or module.startswith("."):
        raise UsageError(f"{target!r}: {module!r} names no module; write its whole name, as in package.module")
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` does for itself
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise TorchRemoteError(f"{target!r}: {error}") from error


def find_object(target: str, wanted: str) -> object:
    """Finds what "package.module:name" names. `wanted`: what stands behind the colon, for the error.

    Raises:
        UsageError: `target` is written otherwise.
        TorchRemoteError: there is no such module, or nothing of the name in it.
    """
    module, _, path = target.partition(":")
    if not path:
        raise UsageError(f"{target!r}: write package.module:{wanted}")
    found: object = import_module(module, target)
    try:
        for name in path.split("."):
            found = getattr(found, name)
    except AttributeError as error:
        raise TorchRemoteError(f"{target!r}: {error}") from error
    return found


def find_class(target: str) -> type:
    """Finds the class that "package.module:Interface" names. Raises TorchRemoteError if it is none."""
    found = find_object(target, "Interface")
    if not isinstance(found, type):
        raise TorchRemoteError(f"{target!r}: is a {type(found).__name__}, not a class")
    return found


def split_served(target: str) -> Served:
    """Reads "worker/name" or "worker/name.method". Without a dot, the method is "forward".

    Raises:
        UsageError: it is neither.
    """
    worker, _, rest = target.partition("/")
    name, dot, method = rest.rpartition(".")
    if not dot:
        name, method = rest, "forward"
    if not worker or not name or not method:
        raise UsageError(f"{target!r}: write worker/name or worker/name.method, such as ps/encoder.topk")
    return Served(worker, name, method)


def split_name(target: str) -> tuple[str, str]:
    """Reads "worker/name". The name may have dots. Raises UsageError if it is something else."""
    worker, _, name = target.partition("/")
    if not worker or not name:
        raise UsageError(f"{target!r}: write worker/name, such as ps/encoder")
    return worker, name
