"""What a caller does: how often each operation is drawn, and with which stub."""

import threading

import torch

import torchremote as tr

from . import board as boards
from . import lives, modules, sending
from .books import Additions, Versions, Weights
from .caller import Subject
from .calls import OF_ARITHMETIC, OF_SUMS, call_model

LIVES = {
    lives.create: 8,
    lives.create_relay: 4,
    lives.create_many: 2,
    lives.create_what_fails: 1,
    lives.create_named: 2,
    lives.connect_fleeting: 2,
    lives.drop: 4,
    lives.ask_stats: 1,
    sending.fetch: 2,
}
OF_STUBS = {sending.send: 6, sending.save: 1, sending.copy_stub: 1}


def connect_to_served(caller):
    """Connects to what owners serve for the whole round."""
    seconds = caller.settings.rpc_timeout
    for owner in boards.OWNERS:
        sums = Additions(caller.board.sums(owner), boards.WORKERS.index(caller.worker))
        served = [
            (modules.Arithmetic, "steady", Weights(3), OF_ARITHMETIC),
            (modules.Arithmetic, "replaced", Versions(caller.board.versions(owner)), OF_ARITHMETIC),
            (modules.Adder, "adder", sums, OF_SUMS),
        ]
        if caller.board.is_killed(owner):
            continue
        for interface, name, book, operations in served:
            stub = caller.shared.get((owner, name)) if caller.random.random() < 0.5 else None
            if stub is None:
                with caller.watch.within(seconds, "connect"):
                    stub = caller.shared[owner, name] = tr.connect(owner, interface, name)
            caller.served.append(Subject(stub, owner, book, seconds, operations))


def make_model(caller):
    """Scripts a model that holds two stubs."""
    scaling = [one for one in caller.served + caller.subjects if one.is_arithmetic]
    adders = [one for one in caller.served + caller.subjects if one.operations is OF_SUMS]
    if scaling and adders:
        arithmetic, adder = caller.random.choice(scaling), caller.random.choice(adders)
        caller.report.count("script a model")
        model = _scripted(modules.Model(arithmetic.stub, adder.stub))
        caller.models.append((arithmetic, adder, model))


_scripting = threading.Lock()  # torch cannot script a class in two threads at once


def _scripted(model):
    while True:
        try:
            with _scripting:
                return torch.jit.script(model)
        except SystemError as error:  # Python's parser, which torch's compiler calls: cpython issue 106905
            if "recursion depth mismatch" not in str(error):
                raise


def step(caller):
    """Draws one operation and does it."""
    caller.forget_the_lost()
    draw, stubs = caller.random.random(), caller.served + caller.subjects
    if draw < 0.25 or not stubs:
        caller.act(caller.draw(LIVES))
    elif draw < 0.32:
        subject = caller.random.choice(stubs)
        operation = caller.draw(OF_STUBS)
        if operation is sending.send and not subject.is_arithmetic:
            return  # of arithmetic alone
        if operation is sending.save and not subject.private:
            return  # it may have a name
        caller.act(operation, subject)
    elif draw < 0.35:
        caller.act(make_model)
    elif draw < 0.45 and caller.models:
        caller.act(call_model, *caller.random.choice(caller.models))
    else:
        subject = caller.random.choice(stubs)
        caller.act(caller.draw(subject.operations), subject)
