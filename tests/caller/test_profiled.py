"""What torch's profilers show of calls."""

import json
import time

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import torchremote as tr
from torchremote.errors import ArgumentError, RemoteError

from .. import zoo

pytestmark = [  # what torch says once a process
    pytest.mark.filterwarnings("ignore:Profiling a distributed call"),
    pytest.mark.filterwarnings("ignore:.*Profiler clears events"),  # 2.11
]
CPU = [ProfilerActivity.CPU]


def ranges(profiled):
    return {event.name: event for event in profiled.events() if " on owner" in event.name}


def test_every_form_of_call_is_a_range(owner):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    x = torch.ones(2, 8)
    with profile(activities=CPU) as profiled:
        for _ in range(3):
            y = stub(x)
        stub.topk_async(x, k=3).wait()
        stub.forward_many([(x,), (x, 2.0)])
        stub.forward_many_async([(x,)]).wait()
    assert torch.equal(y, zoo.LinearEncoder.output(0, x))
    assert ranges(profiled).keys() == {
        f"Encoder.{method} on owner" for method in ("forward", "topk_async", "forward_many", "forward_many_async")
    }
    counts = {average.key: average.count for average in profiled.key_averages()}
    assert counts["Encoder.forward on owner"] == 3


def test_the_range_of_an_async_call_ends_when_it_is_answered(owner, tmp_path):
    stub = tr.create(owner, zoo.Sleeper, zoo.SlowLoop)
    x = torch.ones(2)
    stub(x, 1)
    with profile(activities=CPU) as profiled:
        sent = time.perf_counter()
        answer = stub.forward_async(x, 20_000)
        returned = time.perf_counter() - sent
        answer.wait()
        answered = time.perf_counter() - sent
    (event,) = ranges(profiled).values()
    assert returned * 1e6 < event.time_range.elapsed_us() <= answered * 1e6 * 1.5
    profiled.export_chrome_trace(str(tmp_path / "trace.json"))
    names = {event.get("name") for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]}
    assert "Sleeper.forward_async on owner" in names


def test_calls_that_fail_end_their_range(owner):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    x = torch.ones(2, 8)
    with profile(activities=CPU) as profiled:
        with pytest.raises(RemoteError):
            stub.fail(x)
        failed = stub.fail_async(x)
        with pytest.raises(RemoteError):
            failed.wait()
        with pytest.raises(ArgumentError):
            stub.topk(x, k="3")
        with pytest.raises(ArgumentError):
            stub.topk_async(x, k="3")
    assert {name.split(" ")[0] for name in ranges(profiled)} == {
        f"Encoder.{method}" for method in ("fail", "fail_async", "topk", "topk_async")
    }


def test_calls_of_replicas_are_ranges(owner):
    for worker in (owner, "caller"):
        tr.create(worker, zoo.Encoder, zoo.LinearEncoder, name="profiled")
    replicas = tr.connect([owner, "caller"], zoo.Encoder, "profiled")
    x = torch.ones(2, 8)
    with profile(activities=CPU) as profiled:
        replicas(x)
        replicas.topk_async(x, k=3).wait()
        replicas.forward_many([(x,)] * 4)
    assert ranges(profiled).keys() == {
        f"Encoder.{method} on owner, caller" for method in ("forward", "topk_async", "forward_many")
    }
    for worker in (owner, "caller"):
        tr.withdraw("profiled", worker)


def test_without_a_profiler_there_is_no_range(owner):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    x = torch.ones(2, 8)
    stub(x)
    with profile(activities=CPU) as profiled:
        pass
    stub(x)
    assert ranges(profiled) == {}
