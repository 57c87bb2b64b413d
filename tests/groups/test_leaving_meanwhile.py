"""Another thread leaves the group while this one asks for something: the error is the one of a process without RPC."""

import pytest

import torchremote as tr
from torchremote.caller.creating import requests
from torchremote.errors import NotInitializedError
from torchremote.link import places, timeouts

from .. import zoo
from .nursery import in_a_group


def leaving(function):
    """Makes a function that does what `function` does, and leaves the group, as another thread may just then."""

    def run(*given, **named):
        result = function(*given, **named)
        tr.leave()
        return result

    return run


@in_a_group()
def test_create_between_its_checks_and_its_message(nursery):
    for where, name in ((requests, "new_ticket"), (places, "_read_place")):
        real = getattr(where, name)
        setattr(where, name, leaving(real))
        with pytest.raises(NotInitializedError, match="RPC is not running in this process; call"):
            tr.create("main", zoo.Encoder, zoo.LinearEncoder)
        setattr(where, name, real)
        tr.join("main", shared_memory=False)


@in_a_group()
def test_the_default_timeout_just_after_the_check(nursery):
    timeouts.check_running = leaving(timeouts.check_running)
    with pytest.raises(NotInitializedError, match="RPC is not running in this process; call"):
        timeouts.seconds_of(None)


@in_a_group()
def test_statistics_of_this_process(nursery):
    tr.serve(zoo.LinearEncoder(seed=0), zoo.Encoder, "encoder")
    assert tr.stats().worker == "main"
    real = places._torch.rpc_running
    tr.leave()
    places._torch.rpc_running = lambda: True  # as it was a moment before
    assert (tr.stats().worker, tr.stats().running) == ("", 0)
    places._torch.rpc_running = real
