"""Makes the locks that guard what a whole process has."""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager
from typing import Any


def new_lock() -> AbstractContextManager[bool]:
    """Makes a lock for a variable of a module.

    It is reentrant, because a handler of a signal, or a finaliser, may run in a thread that holds it. A child of
    `os.fork` has it free, because the thread that held it is not there.
    """
    lock: Any = threading.RLock()
    os.register_at_fork(after_in_child=lock._at_fork_reinit)  # as Python's own modules do
    return lock  # type: ignore[no-any-return]
