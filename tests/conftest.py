"""Options and settings of the tests. The group that they share is in the conftest.py of the root."""

import gc

import hypothesis
import pytest
import torch

# The same examples in every run: what fails on one machine fails on all. Without an explanation, which takes longer
# than to find and shrink what it explains.
PHASES = [phase for phase in hypothesis.Phase if phase is not hypothesis.Phase.explain]
hypothesis.settings.register_profile("deterministic", derandomize=True, deadline=None, phases=PHASES)
hypothesis.settings.load_profile("deterministic")
torch.set_num_threads(1)


def pytest_addoption(parser):
    parser.addoption("--record", action="store_true", help="write tests/recorded/ anew, from what is emitted now")


def pytest_collection_finish():
    """Tests collect garbage to see what is let go: from here on not among the million objects that are imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def record(request):
    return request.config.getoption("--record")
