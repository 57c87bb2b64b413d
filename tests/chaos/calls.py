"""Operations that call hosted modules, and check what comes back."""

import re

import torch

from torchremote.errors import ArgumentError, RemoteError
from torchremote.link.failures import FAILURES, explain

from .books import Wrong
from .forms import OfBatch, make_calls
from .modules import WIDTH

FACTORS = (1.0, 2.0, 0.5, 3.0)


def a_tensor(random):
    """Whole numbers of some dtype, shape and stride; one of thirty has megabytes."""
    rows = random.choice([0, 1, 3, 17]) if random.random() < 0.97 else random.choice([8_000, 100_000])
    dtype = random.choice([torch.float32, torch.float32, torch.float64, torch.int64])
    values = torch.randint(-8, 9, [WIDTH, rows] if random.random() < 0.2 else [rows, WIDTH]).to(dtype)
    return values.t() if values.shape == (WIDTH, rows) and rows != WIDTH else values


def scale(caller, subject):
    """Calls forward, some calls at once."""
    count = caller.random.choice([1, 1, 2, 5, 20])
    calls = [(a_tensor(caller.random), caller.random.choice(FACTORS)) for _ in range(count)]
    before = subject.book.before()
    for (x, factor), y in zip(calls, make_calls(caller, subject, "forward", calls), strict=True):
        if not isinstance(y, Exception):
            subject.book.check(before, x, factor, y)


def spell(caller, subject):
    """Sends containers."""
    words = [caller.random.choice(["a", "", "Wörter"]) for _ in range(caller.random.randint(0, 5))]
    counts = {str(n): n for n in range(caller.random.randint(0, 5))}
    x = caller.random.choice([None, torch.ones(7)])
    expected = (" ".join(words), sum(counts.values()) + (len(words) if x is None else 7))
    for result in make_calls(caller, subject, "spell", [(words, counts, x)] * caller.random.randint(1, 4)):
        if not isinstance(result, Exception) and result != expected:
            raise Wrong(f"{words}, {counts}, {x} gave {result}")


def be_slow(caller, subject):
    """Has an owner work for some tens of milliseconds."""
    rounds = caller.random.choice([1, 1_000, 10_000, 30_000])
    calls = [(torch.zeros(1), rounds)] * caller.random.randint(1, 3)
    for result in make_calls(caller, subject, "slow", calls):
        if not isinstance(result, Exception) and result.item() != rounds:
            raise Wrong(f"{rounds} rounds gave {result}")


def raise_remotely(caller, subject):
    """Calls what raises: each error is the call's own."""
    message, others = f"told to fail {caller.random.getrandbits(32)}", RemoteError in subject.may_raise
    for result in make_calls(caller, subject.that_may_raise(RemoteError), "raising", [(message,)] * 3):
        error = result.error if isinstance(result, OfBatch) else result
        if not isinstance(error, Exception):
            raise Wrong(f"what raises gave {error}")
        if type(error) is RemoteError and message not in str(error) and not others:
            raise Wrong(f"{message} was raised, and came back as {error}")


def misfit_remotely(caller, subject):
    """Sends a tensor of a shape that does not fit."""
    for result in make_calls(caller, subject.that_may_raise(RemoteError), "forward", [(torch.ones(2, 5), 1.0)]):
        if not isinstance(result, Exception):
            raise Wrong(f"a shape that does not fit gave {result}")


_BAD = [
    (torch.empty(2, WIDTH, device="meta"), 1.0),
    (None, 1.0),
    ("text", 1.0),
    ([torch.ones(WIDTH)], 1.0),
    (torch.ones(WIDTH), "2"),
    (torch.ones(WIDTH), 2**60 + 1),
    (torch.ones(WIDTH), None),
    (torch.ones(WIDTH), 1.0, 2),
    (),
]


def misuse(caller, subject):
    """Gives arguments that cannot be sent. Nothing is, so this is the error also where the owner is lost."""
    bad, good = caller.random.choice(_BAD), (torch.ones(WIDTH), 1.0)
    stub = subject.stub
    with caller.watch.within(subject.seconds, "misuse"):
        try:
            way = caller.random.choice(["blocking", "async", "many"])
            caller.report.count(f"misuse {way}")
            if way == "blocking":
                stub(*bad)
            elif way == "async":
                stub.forward_async(*bad)
            else:
                stub.forward_many([good, bad, good])
        except ArgumentError as error:
            caller.report.error(error)
            return
    raise Wrong(f"{bad} was not refused")


def add(caller, subject):
    """Adds to a sum. Through one stub, later calls find more."""
    book, random = subject.book, caller.random
    calls = [(random.randint(1, 9),) for _ in range(random.choice([1, 1, 3, 10, 50]))]
    if random.random() < 0.15:
        calls.insert(random.randrange(len(calls) + 1), (-1,))
    before = book.certain
    book.send(sum(n for (n,) in calls if n > 0))
    results = make_calls(caller, subject.that_may_raise(RemoteError), "add", calls)
    last = before
    for (n,), total in zip(calls, results, strict=True):
        if isinstance(total, torch.Tensor):
            if n < 0:
                raise Wrong(f"what raises gave {total}")
            book.done(n)
            book.check(total, last + n)
            last = int(total[0])
        elif type(total) is RemoteError and not (n < 0 and "below zero" in str(total)):
            raise Wrong(f"another call's error: {total}")
    failed = next((n for n, (added,) in enumerate(calls) if added < 0), None)
    if isinstance(results[0], OfBatch) and type(results[0].error) is RemoteError:
        if failed is None:
            raise Wrong(f"no call of this batch raises: {results[0].error}")
        named = re.search(r"calls\[(\d+)\]", str(results[0].error))
        if named and int(named[1]) != failed:
            raise Wrong(f"calls[{failed}] raised: {results[0].error}")
        book.done(sum(n for (n,) in calls[:failed]))


def read_total(caller, subject):
    before = subject.book.certain
    for total in make_calls(caller, subject, "total", [()] * caller.random.randint(1, 3)):
        if not isinstance(total, Exception):
            subject.book.check(total, before)


def append(caller, subject):
    """Appends through the one stub of a log."""
    calls = [(subject.book.next(),) for _ in range(caller.random.choice([1, 5, 20, 100]))]
    for (n,), length in zip(calls, make_calls(caller, subject, "append", calls), strict=True):
        if not isinstance(length, Exception):
            subject.book.done(n)


def read_log(caller, subject):
    for items in make_calls(caller, subject, "items", [()]):
        if not isinstance(items, Exception):
            subject.book.check(items)


def call_model(caller, arithmetic, adder, model):
    """Calls a scripted model that holds two stubs. TorchScript cannot catch, so its errors are torch's."""
    random, book = caller.random, adder.book
    x, factor, n = a_tensor(random), random.choice(FACTORS), random.randint(1, 9)
    before, certain = arithmetic.book.before(), book.certain
    seconds = arithmetic.seconds + adder.seconds
    try:
        if random.random() < 0.5:
            caller.report.count("model.forward")
            book.send(n)
            with caller.watch.within(seconds, "a scripted model"):
                scaled, total = model(x, factor, n)
            book.done(n)
            book.check(total, certain + n)
            results = [scaled]
        else:
            caller.report.count("model.many")
            with caller.watch.within(seconds, "a scripted model"):
                results = model.many(x, factor, random.choice([1, 5, 20]))
    except FAILURES as error:
        found = explain(error, "Arithmetic.forward", arithmetic.owner)
        caller.judge(found, (*arithmetic.may_raise, *adder.may_raise), "a scripted model")
        return
    for y in results:
        arithmetic.book.check(before, x, factor, y)


OF_ARITHMETIC = {scale: 10, spell: 2, be_slow: 2, raise_remotely: 1, misfit_remotely: 1, misuse: 2}
OF_SUMS = {add: 4, read_total: 1}
OF_LOGS = {append: 3, read_log: 1}
