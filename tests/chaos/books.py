"""What was sent to a hosted module, and so which values may come back.

A call that failed with a timeout or a lost connection may have run, may still run, or may never run. So a book keeps
two accounts: what certainly was done, and what may have been done.
"""

import array
import threading

import torch


class Wrong(Exception):
    """A value that cannot be right."""


_lock = threading.Lock()


class Additions:
    """What was added to an `Adding`.

    Args:
        cells: sent and done, for each process that adds.
        own: the position of this process's.
    """

    def __init__(self, cells=None, own=0):
        self._cells = array.array("q", [0, 0]) if cells is None else cells
        self._own = 2 * own

    def send(self, n):
        with _lock:
            self._cells[self._own] += n

    def done(self, n):
        with _lock:
            self._cells[self._own + 1] += n

    @property
    def certain(self):
        return sum(self._cells[1::2])

    @property
    def possible(self):
        return sum(self._cells[0::2])

    def check(self, total, least):
        """Checks a total that came back. `least`: what was certain before the call was sent, and the call's own."""
        most, found = self.possible, total.tolist()
        if len(set(found)) != 1 or not least <= found[0] <= most:
            raise Wrong(f"a total of {found}, where {least} to {most} were added")


class Appended:
    """What one thread appended through one stub to a `Logging`."""

    def __init__(self):
        self.sent = 0
        self._done = set()

    def next(self):
        self.sent += 1
        return self.sent

    def done(self, n):
        self._done.add(n)

    def check(self, items):
        if items != sorted(set(items)):
            raise Wrong(f"not in the order in which one stub sent: {_around_disorder(items)}")
        if not set(items) >= self._done:
            raise Wrong(f"lost although they came back: {sorted(self._done - set(items))[:10]}")
        if items and items[-1] > self.sent:
            raise Wrong(f"{items[-1]} was never sent")


def _around_disorder(items):
    place = next(n for n in range(1, len(items)) if items[n] <= items[n - 1])
    return f"{items[max(0, place - 5) : place + 5]} at {place} of {len(items)}"


class Weights:
    """The weights that a `Scaling` may have: more than one after a state that may or may not have been loaded."""

    def __init__(self, weight):
        self.possible = [float(weight)]
        self.certain = True

    def before(self):
        return None

    def loading(self, weight):
        """A message with this weight goes out."""
        self.possible.append(weight)

    def loaded(self, weight):
        """It was answered. If none before it is unanswered, the module has this weight and no other."""
        if self.certain:
            self.possible = [weight]

    def not_answered(self):
        self.certain = False

    def may_be(self, before):
        return self.possible

    def check(self, before, x, factor, y):
        """Checks what forward(x, factor) gave. `before`: what `before()` said before the call was sent."""
        weights = self.may_be(before)
        if y.shape == x.shape:
            right = torch.zeros(x.shape, dtype=torch.bool)
            for weight in weights:  # a state that is loaded meanwhile may be there in part
                expected = x * torch.tensor(weight) * factor
                right |= expected == y
            if y.dtype == expected.dtype and bool(right.all()):
                return
        raise Wrong(f"{_shown(x)} * {factor} with a weight of {weights} gave {_shown(y)}")


class Versions(Weights):
    """The weights of a `Scaling` that its owner replaces again and again: each is the number of its version."""

    def __init__(self, cells):
        self._cells = cells

    def before(self):
        return self._cells[0]

    def may_be(self, before):
        return [float(version) for version in range(before, self._cells[1] + 1)]


class Relayed:
    """What comes through a relay, of the module with the book `inner`."""

    def __init__(self, inner):
        self._inner = inner
        self.before = inner.before

    def check(self, before, x, factor, y):
        self._inner.check(before, x, factor, y - 1)


def _shown(x):
    return f"{x.dtype} {list(x.shape)} {x.flatten()[:4].tolist()}"
