"""Sees whether this process still accepts connections of workers that join later.

Note [Deaf workers]
    torch accepts one connection after the other. If one ends before torch has greeted it, because its process ended
    just then, or because it was a port scan, torch accepts no more: TensorPipe closes the listening socket, and nobody
    is told. Workers that are connected notice nothing. All others get "connection refused", for as long as the process
    lives. It cannot be given another socket. So each worker looks after its own, and logs an error when it is closed.
    It looks at the file, and does not try to connect, for that would be such a connection.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress


class Listener:
    """The socket at which this process listens on a port."""

    def __init__(self, url: str) -> None:
        """Finds it. `url`: ends with its port.

        The main thread does not call it. It duplicates files for a moment, and a handler of a signal that raises just
        then would leave such a file open, and torch's port with it.
        """
        self._file, self._link = _find(int(url.rpartition(":")[2]))

    def is_closed(self) -> bool:
        """Says whether it was closed. False if it was not found."""
        return bool(self._file) and _link_of(self._file) != self._link


def _find(port: int) -> tuple[str, str]:
    """Returns the path of the file that listens on a TCP port, and what the path leads to; or empty strings."""
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:  # as where no more files can be opened
        return "", ""
    for name in names:
        path = f"/proc/self/fd/{name}"
        link = _link_of(path)
        if link.startswith("socket:") and _listens(int(name), port):
            return path, link
    return "", ""


def _listens(file: int, port: int) -> bool:
    with suppress(OSError), socket.socket(fileno=os.dup(file)) as found:
        if found.family in (socket.AF_INET, socket.AF_INET6) and found.getsockname()[1] == port:
            return bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    return False


def _link_of(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
