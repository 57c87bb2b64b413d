"""Notices what does not come back: dumps the stacks of all threads, tells of it, and ends the process.

Time is measured as this process lived it. While it is stopped, its clock stands still.
"""

import faulthandler
import os
import signal
import sys
import threading
import time
from contextlib import contextmanager

MARGIN = 20.0
"""Seconds by which an operation may be late: five busy processes share the machine with whatever else runs there."""
HUNG = 70
"""The exit status of a process in which something hangs."""

_TICK, _LONGEST_TICK = 0.05, 0.25


class Watch:
    """The clock of this process, and what is waited for in it."""

    def __init__(self, board, worker, report):
        self._board, self._worker, self._report = board, worker, report
        self._lived = 0.0
        self._waiting = {}  # for each thread: what it waits for, and until when
        faulthandler.register(signal.SIGUSR1, all_threads=True)  # if this thread cannot run, the parent asks for stacks
        threading.Thread(target=self._run, daemon=True).start()

    @contextmanager
    def within(self, seconds, what):
        """Notices if what is done inside takes longer than `seconds` and the margin."""
        thread = threading.get_ident()
        outer = self._waiting.get(thread)
        self._waiting[thread] = what, self._lived + seconds + MARGIN, seconds
        try:
            yield
        finally:
            if outer is None:
                del self._waiting[thread]
            else:
                self._waiting[thread] = outer

    def _run(self):
        last = time.monotonic()
        while True:
            time.sleep(_TICK)
            now = time.monotonic()
            self._lived += min(now - last, _LONGEST_TICK)
            last = now
            self._board.live(self._worker, int(self._lived * 1000))
            for what, end, seconds in list(self._waiting.values()):
                if self._lived > end:
                    self._give_up(what, seconds)

    def _give_up(self, what, seconds):
        print(f"{what} did not come back within {seconds} s and {MARGIN} s", flush=True)
        faulthandler.dump_traceback(sys.stdout, all_threads=True)
        self._report.fault("hang", f"{what} did not come back within {seconds} s and {MARGIN} s")
        self._report.write()
        os._exit(HUNG)
