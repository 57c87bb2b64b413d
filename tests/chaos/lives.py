"""Operations that create, connect, withdraw and drop."""

import io
import uuid

import torch

import torchremote as tr
from torchremote.errors import CreationError, RemoteError, ServedNameError, StaleStubError, TorchRemoteError

from . import modules
from .books import Additions, Appended, Relayed, Weights, Wrong
from .caller import Subject, TorchLost
from .calls import OF_ARITHMETIC, OF_LOGS, OF_SUMS
from .sending import X, remotely
from .state import OF_STATE

TIMEOUTS = (None, 0, 0.5, 2.0, 4.0)
"""Seconds, for a new stub. None is RPC's default, 0 is no limit. The others may be too short on a busy machine."""


def seconds_of(caller, timeout):
    """Within which a call with this timeout ends. Without a limit: when its owner is no longer stopped."""
    if timeout == 0:
        return 2 * caller.settings.longest_stop + 5
    return caller.settings.rpc_timeout if timeout is None else timeout


def _kinds(caller):
    """Lists what can be created: interface, class, arguments, book, operations, and whether order is checked."""
    weight = caller.random.randint(1, 99)
    return [
        (modules.Arithmetic, modules.Scaling, (weight,), Weights(weight), OF_ARITHMETIC | OF_STATE, False),
        (modules.Adder, modules.Adding, (), Additions(), OF_SUMS, False),
        (modules.Log, modules.Logging, (), Appended(), OF_LOGS, True),
    ]


def create(caller):
    """Creates a module, at once or later, and keeps its stub."""
    owner, timeout = caller.owner(), caller.random.choice(TIMEOUTS if caller.unquiet else TIMEOUTS[:2])
    interface, cls, args, book, operations, one_stub = caller.random.choice(_kinds(caller))
    caller.report.count(f"create {cls.__name__}")
    with caller.watch.within(caller.settings.rpc_timeout, "create"):
        pending = tr.create_async(owner, interface, cls, args, timeout=timeout)
        if caller.random.random() < 0.1:
            return  # nobody waits for it
        stub = pending.wait()
    seconds = seconds_of(caller, timeout)
    caller.subjects.append(Subject(stub, owner, book, seconds, operations, one_stub=one_stub, private=True))


def create_relay(caller):
    """Creates a module that holds a stub of another one, which is sent with the request."""
    inner = [one for one in caller.served + caller.subjects if one.is_arithmetic and one.depth < 3]
    if not inner:
        return
    inner, owner = caller.random.choice(inner), caller.owner()
    cls = caller.random.choice([modules.Relay, modules.CountingRelay])
    caller.report.count(f"create {cls.__name__}")
    with caller.watch.within(caller.settings.rpc_timeout, "create a relay"):
        stub = tr.create(owner, modules.Arithmetic, cls, (inner.stub,))
    may_raise = (*inner.may_raise, RemoteError) if caller.unquiet or inner.may_raise else ()
    book = Relayed(inner.book)
    caller.subjects.append(
        Subject(stub, owner, book, caller.settings.rpc_timeout, OF_ARITHMETIC, may_raise, depth=inner.depth + 1)
    )


def create_many(caller):
    """Creates modules on several owners at once; one of them sometimes fails, and then none stays."""
    owners = [caller.owner() for _ in range(caller.random.randint(1, 6))]
    weights = [caller.random.randint(1, 99) for _ in owners]
    caller.report.count("create_many")
    args = [(weight,) for weight in weights]
    bad = caller.random.random() < 0.2
    if bad:
        args[-1] = ("no number",)
    every = caller.random.random() < 0.5
    with caller.watch.within(caller.settings.rpc_timeout, "create_many"):
        try:
            stubs = tr.create_many(owners, modules.Arithmetic, modules.Scaling, args, return_exceptions=every)
        except CreationError as error:
            caller.judge(error, (CreationError,) if bad else (), "create_many")
            return
    for owner, weight, stub in zip(owners, weights, stubs, strict=True):
        if isinstance(stub, TorchRemoteError):
            caller.judge(stub, (CreationError,) if bad else (), "create_many")
        else:
            seconds = caller.settings.rpc_timeout
            operations = OF_ARITHMETIC | OF_STATE
            caller.subjects.append(Subject(stub, owner, Weights(weight), seconds, operations, private=True))


def create_what_fails(caller):
    caller.report.count("create what fails")
    with caller.watch.within(caller.settings.rpc_timeout, "create what fails"):
        try:
            tr.create(caller.owner(), modules.Arithmetic, modules.failing_to_build)
        except CreationError as error:
            caller.report.error(error)
            return
    raise Wrong("what fails to build was created")


def create_named(caller):
    """Creates a module with a name, calls it through a connected stub and one from an archive, and has it withdrawn."""
    owner, name, weight = caller.owner(), f"named by {caller.worker} {uuid.uuid4()}", caller.random.randint(1, 99)
    caller.report.count("create with a name")
    seconds = caller.settings.rpc_timeout
    with caller.watch.within(seconds, "create with a name"):
        stub = tr.create(owner, modules.Arithmetic, modules.Scaling, (weight,), name=name)
    try:
        file = io.BytesIO()
        torch.jit.save(stub, file)
        file.seek(0)
        with caller.watch.within(2 * seconds, "connect"):
            stubs = [stub, tr.connect(owner, modules.Arithmetic, name), tr.load(file)]
        for one in stubs:
            with caller.watch.within(seconds, "a stub of what has a name"):
                Weights(weight).check(None, X, 2.0, one(X, 2.0))
    finally:
        caller.names.append((owner, name))
        withdraw(caller)


def withdraw(caller):
    """Withdraws what has a name. What could not be withdrawn is tried again at the end."""
    for owner, name in list(caller.names):
        if not caller.board.is_killed(owner):
            try:
                remotely(caller, owner, withdraw_here, (name,))
            except TorchLost as error:
                caller.judge(error, (), "withdraw")
                continue
        caller.names.remove((owner, name))


def withdraw_here(name):
    """Withdraws what may be withdrawn already: a request that timed out was done, or will be."""
    try:
        tr.withdraw(name)
    except ServedNameError:
        return False
    return True


def connect_fleeting(caller):
    """Connects to what its owner serves, replaces and withdraws all the time."""
    caller.report.count("connect what is withdrawn")
    owner = caller.owner()
    try:
        with caller.watch.within(caller.settings.rpc_timeout, "connect"):
            stub = tr.connect(owner, modules.Arithmetic, "fleeting")
    except ServedNameError as error:
        caller.report.error(error)
        return
    seconds = caller.settings.rpc_timeout
    caller.subjects.append(Subject(stub, owner, Weights(5), seconds, OF_ARITHMETIC, (StaleStubError,)))


def drop(caller):
    """Drops stubs, at random."""
    caller.report.count("drop")
    for what in (caller.subjects, caller.models, caller.kept):
        if what:
            del what[caller.random.randrange(len(what)) :]


def ask_stats(caller):
    caller.report.count("stats")
    with caller.watch.within(30, "stats"):
        tr.stats(caller.owner())
