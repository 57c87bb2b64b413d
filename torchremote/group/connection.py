"""Talks to the group's hub as a worker does: says hello, sends messages, and reads them."""

from __future__ import annotations

import json
import math
import os
import secrets
import socket
import time
from contextlib import suppress
from typing import Final

from .. import _torch
from ..errors import GroupError
from .hub import (
    GROUP_PROTOCOL,
    LONGEST_LINE,
    SILENCE,
    Message,
    line_of,
    split_address,
    watch_connection,
    written_address,
)

_LONGEST_CONNECT: Final = 10.0  # seconds
_BEFORE_ANOTHER_TRY: Final = 0.25  # seconds

_process = secrets.token_hex(8)
"""Names this process at hubs, for as long as it lives."""


def _after_fork() -> None:
    global _process
    _process = secrets.token_hex(8)  # the child has the number of its parent in distributed autograd


os.register_at_fork(after_in_child=_after_fork)


def join_error(name: str, what: str) -> GroupError:
    """Makes the error of a worker that cannot join."""
    return GroupError(f"join {name!r}: {what}")


def say_hello(
    address: str, name: str, timeout: float, deadline: float, visits: bool = False
) -> tuple[HubConnection, Message]:
    """Connects to the hub, and says the worker's name. Returns the connection and the hub's welcome.

    Args:
        timeout: seconds in which the other workers have to know this one.
        deadline: when the hub has to have answered, as `time.monotonic` has it.
        visits: does not fail where members do not answer in time.

    Raises:
        GroupError: there is no hub, or it refuses this worker.
    """
    patience = min(time.monotonic() + SILENCE + 2, deadline - _BEFORE_ANOTHER_TRY)
    about: Message = {"process": _process, "autograd": _torch.autograd_number()}  # see hub.py, Note [The hub]
    about |= {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%H:%M:%S")}
    hello = {"do": "hello", "protocol": GROUP_PROTOCOL, "name": name, "timeout": timeout, "visits": visits, **about}
    while True:
        connection = _connect(address, name, timeout)
        try:
            answer = connection.ask(hello, deadline)
            match answer:
                case {"do": "welcome", "number": int(), "autograd": int(), "members": list()}:
                    return connection, answer
                case {"do": "refused", "why": str(why), "again": bool(again)}:
                    if not again or time.monotonic() > patience:
                        raise join_error(name, why)
                case _:
                    raise ValueError(_shortened(str(answer)))
        except (OSError, ValueError) as error:
            connection.close()
            raise join_error(name, f"what listens at {address} {_what_it_does(error)}") from None
        except BaseException:
            connection.close()
            raise
        connection.close()
        time.sleep(_BEFORE_ANOTHER_TRY)


def _connect(address: str, name: str, timeout: float) -> HubConnection:
    try:
        host, port = split_address(address)
        connection = socket.create_connection((host, port), timeout=min(timeout, _LONGEST_CONNECT))
    except ValueError as error:
        raise join_error(name, f"address={error}") from None
    except OSError as error:
        raise join_error(
            name,
            f"no hub can be reached at {address} ({error.strerror or error}); start one there: "
            f"python -m torchremote hub --address {address}",
        ) from error
    return HubConnection(connection)


def _what_it_does(error: OSError | ValueError) -> str:
    """Says of what listens at an address what is wrong with it, for the error of `HubConnection.ask`."""
    if isinstance(error, TimeoutError):
        return "does not answer: is it a hub, or is it stopped? Have it go on, or give the address of another one"
    start = "python -m torchremote hub --address host:port"
    if isinstance(error, OSError):
        return (
            "ended the connection, and did not answer as a hub does. If no hub runs there, start one at a free "
            f"address: {start}"
        )
    return f"is no hub: it answers {error}; name a hub's address, or start one at an address that is free: {start}"


class HubConnection:
    """A worker's connection to the hub."""

    def __init__(self, connection: socket.socket) -> None:
        watch_connection(connection)
        self._socket, self._unread = connection, b""

    @property
    def address(self) -> str:
        """Returns the hub's address, as it can be reached from this machine."""
        return written_address(*self._socket.getpeername()[:2])

    @property
    def own_host(self) -> str:
        """Returns the address of this machine from which it reaches the hub, without a port."""
        host: str = self._socket.getsockname()[0]
        return host

    def ask(self, message: Message, deadline: float) -> Message:
        """Sends a message, and returns the answer.

        Raises:
            TimeoutError: there is no answer at `deadline`.
            ConnectionError: the connection has ended.
            ValueError: the answer is no message.
        """
        self._socket.sendall(line_of(message))
        self._socket.settimeout(max(0.1, deadline - time.monotonic()))
        answer = self.read(deadline)
        if answer is None:
            raise ConnectionError
        return answer

    def send(self, message: Message) -> None:
        """Sends a message. If the hub is lost, `read` says so."""
        with suppress(OSError):
            self._socket.sendall(line_of(message))

    def read(self, deadline: float = math.inf) -> Message | None:
        """Reads a message, or returns None at the connection's end.

        Raises:
            TimeoutError: nothing came for the seconds of `look_every`, or no whole message came until `deadline`.
            ValueError: what came is no message.
        """
        while b"\n" not in self._unread:
            if time.monotonic() > deadline:
                raise TimeoutError
            if len(self._unread) > LONGEST_LINE:
                raise ValueError(_shortened(self._unread))
            try:
                received = self._socket.recv(1 << 16)
            except TimeoutError:
                raise
            except OSError:
                return None
            if not received:
                return None
            self._unread += received
        line, _, self._unread = self._unread.partition(b"\n")
        with suppress(ValueError, RecursionError):
            if isinstance(message := json.loads(line), dict):
                return message
        raise ValueError(_shortened(line))

    def look_every(self, seconds: float) -> None:
        """Has `read` raise TimeoutError whenever nothing came for so long."""
        with suppress(OSError):  # it is closed, as `read` says, too
            self._socket.settimeout(seconds)

    def end(self) -> None:
        """Has `read` return None, in whatever thread it waits."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()


def _shortened(said: bytes | str) -> str:
    """Writes what was received, for a message of an error."""
    return repr(said) if len(said) <= 80 else f"{said[:80]!r}..."
