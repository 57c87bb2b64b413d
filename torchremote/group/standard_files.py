"""Keeps sockets away from the numbers of standard input, output and error."""

from __future__ import annotations

import os


def open_standard_files() -> None:
    """Opens the null device for each of the files 0 to 2 that is closed.

    The next socket would get its number. Then whatever is printed or logged would be sent to another worker, and torch
    would end that one's process.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number that is free
