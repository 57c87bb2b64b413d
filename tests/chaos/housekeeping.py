"""What an owner does with what it serves, in a thread of its own: it replaces, withdraws and serves again."""

import time

import torchremote as tr
from torchremote.errors import ServedNameError

from . import modules

SERVED = frozenset({"steady", "replaced", "adder", "fleeting"})
"""The names under which an owner may serve something when a round rests."""


def serve_all(board, owner):
    """Serves what is there for the whole round."""
    versions = board.versions(owner)
    versions[0] = versions[1] = 1
    tr.serve(modules.Adding(), modules.Adder, "adder")  # first: it prepares the process for calls in turn
    tr.serve(modules.Scaling(3), modules.Arithmetic, "steady")
    tr.serve(modules.Scaling(1), modules.Arithmetic, "replaced")


def keep_house(caller):
    """One step of the thread."""
    time.sleep(caller.random.uniform(0.02, 0.4))
    if caller.random.random() < 0.5:
        caller.act(replace)
    else:
        caller.act(serve_or_withdraw)


def nothing(caller):
    pass


def replace(caller):
    """Puts the next version in the place of the last one."""
    versions = caller.board.versions(caller.worker)
    versions[1] += 1
    caller.report.count("serve, replace")
    tr.serve(modules.Scaling(versions[1]), modules.Arithmetic, "replaced", replace=True)
    versions[0] = versions[1]


def serve_or_withdraw(caller):
    caller.report.count("serve, withdraw")
    if caller.random.random() < 0.6:
        tr.serve(modules.Scaling(5), modules.Arithmetic, "fleeting", replace=True)
    else:
        try:
            tr.withdraw("fleeting")
        except ServedNameError as error:
            caller.report.error(error)
