"""Which questions are asked, and where their answers are kept."""

from pathlib import Path

QUESTIONS = tuple(
    """
    latency native native_in_flight beside_peers in_flight batches large_tensors busy_owner callers
    in_turn native_in_turn pipeline counting native_counting gathering native_gathering threads
    beside_torchrl native_beside_torchrl exported compiled
    replicas joining creation compilation growth memory movement settings
    gathering_on_accelerator native_gathering_on_accelerator
    """.split()
)
RESULTS = Path(__file__).parent / "results"
