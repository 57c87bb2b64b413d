"""Integers that all processes of a round share, in a file: what a killed process wrote stays."""

import mmap

WORKERS = ("owner0", "owner1", "caller0", "caller1", "third")
OWNERS = ("owner0", "owner1", "third")
CALLERS = ("caller0", "caller1", "third")

# The phases of a round. The parent sets the phase, and each worker says to which it has come. RESTING: no thread works,
# and all stubs are dropped. LETTING_GO: so it is everywhere, and owners wait until they host no more than they serve.
# The three from WORKING on come again in each part of a round: the next are 5, 6, and 7.
STARTING, READY, WORKING, RESTING, LETTING_GO = range(5)
PART = 3
LEAVING, LEFT = 1000, 1001

_CELLS, _SIZE = 256, 256 * 8
_PHASE, _REACHED, _LIVED, _KILLED, _VERSIONS, _SUMS = 0, 10, 20, 30, 40, 60


class Board:
    """One worker's, or the parent's, view of the integers."""

    def __init__(self, path):
        with path.open("r+b") as file:
            self.cells = memoryview(mmap.mmap(file.fileno(), _SIZE)).cast("q")

    @staticmethod
    def create(path):
        path.write_bytes(bytes(_SIZE))
        return Board(path)

    @property
    def phase(self):
        return self.cells[_PHASE]

    @phase.setter
    def phase(self, phase):
        self.cells[_PHASE] = phase

    @property
    def working(self):
        return self.phase < LEAVING and self.phase % PART == WORKING

    def reach(self, worker, phase):
        self.cells[_REACHED + WORKERS.index(worker)] = phase

    def reached(self, worker):
        return self.cells[_REACHED + WORKERS.index(worker)]

    def live(self, worker, milliseconds):
        self.cells[_LIVED + WORKERS.index(worker)] = milliseconds

    def lived(self, worker):
        return self.cells[_LIVED + WORKERS.index(worker)]

    def mark_killed(self, worker):
        self.cells[_KILLED + WORKERS.index(worker)] = 1

    def is_killed(self, worker):
        return bool(self.cells[_KILLED + WORKERS.index(worker)])

    def sums(self, owner):
        """Returns what each worker added to the adder that `owner` serves: for each worker, sent and done."""
        first = _SUMS + OWNERS.index(owner) * 2 * len(WORKERS)
        return self.cells[first : first + 2 * len(WORKERS)]

    def versions(self, owner):
        """The version of the module that `owner` replaces: the last that is in place, and the last that was begun."""
        first = _VERSIONS + 2 * OWNERS.index(owner)
        return self.cells[first : first + 2]
