"""The ways to make calls of one method: all give a value or an error for each call."""

import torchremote as tr
from torchremote.errors import CallTimeoutError, TorchRemoteError

ASKING = 6.0
"""Seconds in which an owner says which call of a batch failed, and a little more."""


class OfBatch(Exception):
    """Stands for the result of each call of a batch that failed. `error` is the batch's."""

    def __init__(self, error):
        super().__init__(str(error))
        self.error = error


def blocking(caller, stub, method, calls, seconds):
    results = []
    for call in calls:
        with caller.watch.within(seconds, method):
            results.append(_outcome(lambda: getattr(stub, method)(*call)))
    return results


def asynchronous(caller, stub, method, calls, seconds):
    futures = [_outcome(lambda: getattr(stub, f"{method}_async")(*call)) for call in calls]
    order = list(range(len(calls)))
    caller.random.shuffle(order)
    with caller.watch.within(seconds, f"{method}_async"):
        for n in order:
            if not isinstance(futures[n], Exception):
                future = futures[n]
                futures[n] = _outcome(future.wait)
    return futures


def many(caller, stub, method, calls, seconds):
    with caller.watch.within(seconds + ASKING, f"{method}_many"):
        return _batch(lambda: getattr(stub, f"{method}_many")(calls), calls)


def many_async(caller, stub, method, calls, seconds):
    with caller.watch.within(seconds + ASKING, f"{method}_many_async"):
        return _batch(lambda: getattr(stub, f"{method}_many_async")(calls).wait(), calls)


def each(caller, stub, method, calls, seconds):
    with caller.watch.within(seconds, f"{method}_many, return_exceptions"):
        return getattr(stub, f"{method}_many")(calls, return_exceptions=True)


def each_async(caller, stub, method, calls, seconds):
    with caller.watch.within(seconds, f"{method}_many_async, return_exceptions"):
        return getattr(stub, f"{method}_many_async")(calls, return_exceptions=True).wait()


FORMS = {form.__name__: form for form in (blocking, asynchronous, many, many_async, each, each_async)}


def make_calls(caller, subject, method, calls):
    """Makes calls of `method` in a random form. Returns a value or an error for each call.

    Sometimes through a stub that has no time for them: then timeouts may come back also in rounds where nothing is
    killed or stopped.
    """
    form = caller.random.choice(list(FORMS))
    caller.report.count(f"{type(subject.book).__name__}.{method} {form}")
    stub, seconds, hasty = subject.stub, subject.seconds, caller.random.random() < 0.1
    if hasty and not subject.one_stub:
        seconds = caller.random.choice([0.001, 0.01, 0.1])
        stub = tr.with_timeout(stub, seconds)
    results = FORMS[form](caller, stub, method, calls, seconds)
    seen = set()
    for result in results:
        error = result.error if isinstance(result, OfBatch) else result
        if isinstance(error, Exception) and id(error) not in seen:
            seen.add(id(error))
            allowed = (*subject.may_raise, CallTimeoutError) if hasty else subject.may_raise
            caller.judge(error, allowed, f"{method} {form} on {subject.owner}")
    return results


def _outcome(function):
    try:
        return function()
    except TorchRemoteError as error:
        return error


def _batch(function, calls):
    try:
        return function()
    except TorchRemoteError as error:
        return [OfBatch(error)] * len(calls)
