"""Words exceptions, as of users' code, for errors and logs; and tells Ctrl-C apart from them."""

from __future__ import annotations

import threading


def first_line(error: BaseException) -> str:
    """Returns the first line of what an error says; the name of its class if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def words_of(error: BaseException) -> str:
    """Words an exception of a user's code, which may not even have words."""
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException as another:
        return f"{type(error).__name__}, whose words raise {type(another).__name__}"


def is_ctrl_c(error: BaseException) -> bool:
    """Says whether `error` is Ctrl-C: on another thread, a KeyboardInterrupt is what a user's code raised itself."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()
