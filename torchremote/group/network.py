"""Finds the network interface that has an address, and has TensorPipe listen there."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_CHOICE: Final = "TP_SOCKET_IFNAME"  # the variable with the interface on which TensorPipe listens
_SIOCGIFADDR: Final = 0x8915  # asks Linux for an interface's address of IPv4


@contextmanager
def listening_at(address: str) -> Iterator[bool]:
    """Has TensorPipe listen at an address of this machine meanwhile, unless the user chose an interface.

    Yields:
        Whether it was told to.
    """
    # Otherwise it takes the address of the machine's host name, which others may not reach, or too many.
    name = _interface_with(address)
    if name is None or _CHOICE in os.environ:
        yield False
        return
    try:
        os.environ[_CHOICE] = name
        yield True
    finally:  # what this process starts, and its next group, are not told: it was not the user's choice
        os.environ.pop(_CHOICE, None)


def _interface_with(address: str) -> str | None:
    """Returns the name of this machine's interface with an address of IPv4. None if there is none."""
    for _, name in socket.if_nameindex():
        if _address_of(name) == address:
            return name
    return None


def _address_of(interface: str) -> str | None:
    asked = struct.pack("256s", interface.encode())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            answer = fcntl.ioctl(asking.fileno(), _SIOCGIFADDR, asked)
        except OSError:  # it has none
            return None
    return socket.inet_ntoa(answer[20:24])
