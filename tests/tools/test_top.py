"""`top`, and what Prometheus is told."""

import contextlib
import io
import json
import urllib.request

import pytest
import torch
from rich.console import Console

import torchremote
from torchremote.owner.running.counts import CallStats
from torchremote.owner.stats import ModuleStats, WorkerStats
from torchremote.tools.drawn import table_of
from torchremote.tools.rates import duration, rows_between

from .. import zoo
from ..forks import Fork
from .commands import programs, run_commands


def call(address):
    torchremote.join("caller", address, shared_memory=False)
    stub = torchremote.connect("ps", zoo.Encoder, "encoder")
    for _ in range(20):
        stub(torch.ones(2, 8))
    for _ in range(3):
        with contextlib.suppress(torchremote.errors.RemoteError):
            stub.fail(torch.ones(2, 8))
    print("called", flush=True)
    torchremote.leave()


@pytest.mark.timeout(300)
def test_what_is_counted_is_shown_and_told(tmp_path):
    with programs() as start:
        hub = start(tmp_path / "hub", "hub", "--address", "127.0.0.1:0")
        address = hub.said(r"listens on (\S+)")[1]
        ps = start(
            *(tmp_path / "ps", "serve", "tests.zoo:LinearEncoder", "--interface", "tests.zoo:Encoder"),
            *("--name", "encoder", "--worker", "ps", "--address", address, "--json", "--metrics-port", "0"),
        )
        place = json.loads(ps.said(r"^\{.*serving.*\}$")[0])["metrics"]
        caller = Fork(call, address, output=tmp_path / "caller")
        assert caller.wait(60) == 0, (tmp_path / "caller").read_text()
        with urllib.request.urlopen(f"http://{place}/metrics", timeout=20) as answer:
            told = answer.read().decode()
        labels = 'interface="Encoder",method="{}",module="encoder",{}worker="ps"'
        ok, failed = 'outcome="ok",', 'outcome="failed",'
        assert f"torchremote_calls_total{{{labels.format('forward', ok)}}} 20.0\n" in told
        assert f"torchremote_calls_total{{{labels.format('fail', failed)}}} 3.0\n" in told
        assert 'torchremote_call_duration_seconds_bucket{interface="Encoder",le="+Inf",method="forward"' in told
        assert 'torchremote_module_bytes{interface="Encoder",module="encoder",worker="ps"} 288.0\n' in told
        assert "process_resident_memory_bytes " in told
        top = ("top", "--address", address, "--interval", "0.2")
        ls = ("ls", "--address", address, "--json")
        shown, lines, listed = run_commands(tmp_path, (*top, "--rounds", "1"), (*top, "--rounds", "2", "--json"), ls)
        assert shown[0] == lines[0] == 0, (shown, lines)
        assert "encoder.forward" in shown[1]
        first, second = map(json.loads, lines[1].splitlines())
        assert second["workers"][0]["worker"] == "ps"
        assert {row["method"]: row["failures"] for row in first["methods"]} == {
            "fail": 3,
            "forward": 0,
            "reset": 0,
            "topk": 0,
        }
        (module,) = json.loads(listed[1])[0]["modules"]
        assert module["calls"]["fail"] == {"calls": 3, "failures": 3, "p50": None, "p99": None}
        assert module["calls"]["forward"]["calls"] == 20
        assert 0 < module["calls"]["forward"]["p50"] <= module["calls"]["forward"]["p99"] < 10
        assert ps.end()[0] == 0


def worker(process=1, **calls):
    module = ModuleStats(7, "Encoder", "encoder", "cpu", None, 0.0, 288, calls)
    return WorkerStats("ps", [module], "here", process, 0.0, 3 << 20, 2)


def test_rates_are_those_of_the_interval():
    before = {"ps": worker(forward=CallStats(1, {10: 100}))}
    now = worker(forward=CallStats(2, {10: 100, 40: 19}), topk=CallStats(0, {}))
    rows = rows_between(before, {"ps": now, "lost": None}, 2.0)
    assert [(row.method, row.calls_a_second, row.failures) for row in rows] == [("forward", 10.0, 2), ("topk", 0.0, 0)]
    assert 0.9e-3 < rows[0].p50 < 1.3e-3
    assert rows[1].p50 is None
    restarted = rows_between({"ps": worker(process=2, forward=CallStats(9, {10: 900}))}, {"ps": now}, 1.0)
    assert restarted[0].calls_a_second == 121, "what another process counted does not count"
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table_of({"ps": now, "lost": None}, rows))
    _, first, forward, _, last = (line.split() for line in console.export_text().splitlines())
    assert first == ["ps", "1", "in", "flight", "3.0", "MiB"]
    assert forward[:6] == ["encoder.forward", "Encoder", "cpu", "288", "B", "10"]
    assert last == ["lost", "does", "not", "answer"]


def test_modules_that_are_not_counted_are_shown():
    stats = WorkerStats("ps", [ModuleStats(7, "Encoder", None, "cpu", 1, 0.0, 288, None)], "here", 1, 0.0, 1, 1)
    (row,) = rows_between({}, {"ps": stats}, 1.0)
    assert (row.module, row.method) == ("#7", None)


@pytest.mark.parametrize(("seconds", "text"), [(None, ""), (12e-6, "12 us"), (0.0123, "12.3 ms"), (2.5, "2.5 s")])
def test_durations(seconds, text):
    assert duration(seconds) == text
