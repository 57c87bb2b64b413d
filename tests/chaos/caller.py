"""A thread of a caller: draws operations, has stubs of its own, and judges errors."""

import gc
import random
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from torchremote.errors import CallTimeoutError, TorchRemoteError, WireError

from . import board as boards
from .books import Wrong


@dataclass(frozen=True)
class Subject:
    """A stub, and what is known of its module."""

    stub: Any
    owner: str
    book: Any
    seconds: float  # within which a call ends
    operations: dict[Callable[..., None], int]  # that call it, and how often each is drawn
    may_raise: tuple[type[Exception], ...] = ()  # besides timeouts and lost connections
    one_stub: bool = False  # the order of its calls is checked, so no other stub may call it
    private: bool = False  # no other thread calls it
    depth: int = 0  # how many relays there are in between

    @property
    def is_arithmetic(self):
        return hasattr(self.book, "before")

    def that_may_raise(self, *errors):
        return replace(self, may_raise=(*self.may_raise, *errors))


class TorchLost(WireError):
    """Torch's own functions reported a lost worker, or a timeout."""


@dataclass
class Caller:
    """What an operation is given."""

    random: random.Random
    worker: str
    settings: Any
    board: boards.Board
    report: Any
    watch: Any
    served: list[Subject] = field(default_factory=list)  # what owners serve for the whole round
    subjects: list[Subject] = field(default_factory=list)  # unnamed modules; the stubs keep them
    models: list[tuple[Any, Any, Any]] = field(default_factory=list)
    kept: list[Any] = field(default_factory=list)  # stubs that nobody calls
    shared: dict[Any, Any] = field(default_factory=dict)  # stubs that all threads of the worker call
    names: list[tuple[str, str]] = field(default_factory=list)  # owners and names of what has to be withdrawn

    @property
    def unquiet(self):
        """Says whether workers are killed or stopped in this round."""
        return self.settings.kind != "calm"

    def owner(self):
        """An owner, rarely one that was killed."""
        living = [owner for owner in boards.OWNERS if not self.board.is_killed(owner)]
        return self.random.choice(living if living and self.random.random() < 0.97 else boards.OWNERS)

    def another_worker(self):
        others = [name for name in boards.WORKERS if name != self.worker and not self.board.is_killed(name)]
        return self.random.choice(others) if others and self.random.random() < 0.97 else "owner0"

    def judge(self, error, allowed, what):
        """Counts an error. It is a fault if nothing that happened in this round explains it.

        Args:
            allowed: the classes that the operation may raise in any round.
        """
        self.report.error(error)
        if type(error) in allowed:
            return
        if isinstance(error, WireError) and (
            self.settings.kills or (self.settings.kind == "stops" and _is_timeout(error))
        ):
            return
        words = "".join(traceback.format_exception(error)) if error.__traceback__ else repr(error)
        self.report.fault("error", f"{what}: {words[:4000]}")

    def forget_the_lost(self):
        self.subjects = [subject for subject in self.subjects if not self.board.is_killed(subject.owner)]
        del self.subjects[:-8], self.models[:-4], self.kept[:-8]

    def rest(self):
        for what in (self.subjects, self.models, self.kept, self.served, self.shared):
            what.clear()

    def draw(self, chances):
        return self.random.choices(list(chances), weights=list(chances.values()))[0]

    def act(self, operation, *args):
        """Does one operation, and says if it fails in a way that it may not."""
        try:
            operation(self, *args)
        except TorchRemoteError as error:
            self.judge(error, (), operation.__name__)
        except Wrong as error:
            self.report.fault("wrong", f"{operation.__name__}: {error}\n{traceback.format_exc()}")
        except BaseException:
            self.report.fault("error", f"{operation.__name__}: {traceback.format_exc()}")


def _is_timeout(error):
    return isinstance(error, CallTimeoutError) or (isinstance(error, TorchLost) and "timeout" in str(error).lower())


def run_thread(caller, pause, prepare, step, finish):
    """Makes random operations while the round works, and drops all stubs while it rests.

    Args:
        pause: a barrier of all threads of the worker, and of its main thread.
        prepare, step, finish: operations; for the beginning, for all the time, and for the end.
    """

    def work():
        for _ in range(caller.settings.parts):
            caller.act(prepare)
            while caller.board.working:
                step(caller)
            caller.act(finish)
            caller.rest()
            gc.collect()
            pause.wait()  # it rests
            pause.wait()  # it goes on

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread
