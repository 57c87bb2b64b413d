"""A small share of `make fuzz`, the same in every run."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .fuzz import check_calls, check_pure, echoes


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(echoes(), st.data())
def test_an_interface_through_everything(owner, interface, data):
    check_pure(interface)
    check_calls(interface, owner, data.draw)
