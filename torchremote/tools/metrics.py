"""Serves what a worker counts to Prometheus, for `torchremote serve --metrics-port`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ..errors import TorchRemoteError
from ..jit.runtime.counting import BUCKETS, PER_OCTAVE
from ..owner.running.counts import CallStats, upper_bound
from ..owner.stats import stats_here

_LABELS: Final = ("worker", "module", "interface")
_BOUNDS: Final = tuple(range(5 * PER_OCTAVE - 1, min(BUCKETS, 27 * PER_OCTAVE), PER_OCTAVE))
"""The buckets that Prometheus gets: each bound is twice the one before, from about 30 us to a minute."""


def start_metrics(port: int, host: str, worker: str) -> int:
    """Answers Prometheus, from a thread. Returns the port.

    Raises:
        TorchRemoteError: the port is taken, or `host` is no address of this machine.
    """
    registry = CollectorRegistry()
    registry.register(Metrics(worker))
    ProcessCollector(registry=registry)
    try:
        server, _ = start_http_server(port, host, registry)
    except OSError as error:
        raise TorchRemoteError(f"--metrics-port: cannot listen on {host}:{port}: {error.strerror}") from error
    return int(server.server_port)


class Metrics(Collector):
    """Reads the counts when Prometheus asks."""

    def __init__(self, worker: str) -> None:
        self._worker = worker

    def describe(self) -> Iterable[Metric]:
        """Returns nothing: names that are not yet there need no check."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yields the metrics of this moment."""
        calls = CounterMetricFamily(
            "torchremote_calls", "Calls that have ended.", labels=(*_LABELS, "method", "outcome")
        )
        durations = HistogramMetricFamily(
            "torchremote_call_duration_seconds", "How long calls ran that succeeded.", labels=(*_LABELS, "method")
        )
        sizes = GaugeMetricFamily("torchremote_module_bytes", "Bytes of parameters and buffers.", labels=_LABELS)
        running = GaugeMetricFamily("torchremote_calls_running", "Calls in flight at this worker.", labels=["worker"])
        stats = stats_here(self._worker)
        running.add_metric([self._worker], stats.running)
        for module in stats.modules:
            labels = [self._worker, module.name or f"#{module.number}", module.interface]
            sizes.add_metric(labels, module.bytes)
            for method, counts in (module.calls or {}).items():
                calls.add_metric([*labels, method, "ok"], counts.calls - counts.failures)
                calls.add_metric([*labels, method, "failed"], counts.failures)
                durations.add_metric([*labels, method], buckets_of(counts), sum_value=None)
        yield from (calls, durations, sizes, running)


def buckets_of(counts: CallStats) -> list[tuple[str, float]]:
    """Returns the buckets as Prometheus has them: each bound, with the calls that took at most that long."""
    bounds = [
        (
            f"{upper_bound(bound):.6g}",
            float(sum(count for bucket, count in counts.durations.items() if bucket <= bound)),
        )
        for bound in _BOUNDS
    ]
    return [*bounds, ("+Inf", float(counts.calls - counts.failures))]
