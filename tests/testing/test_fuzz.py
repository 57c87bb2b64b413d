"""A small share of `make fuzz`, the same in every run: each interface in one way to host its module."""

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from torchremote.testing.check import WAYS

from ..fuzz import check_calls, check_pure, echoes


# Each example compiles for good, so what fails is shown as it is.
@settings(max_examples=60, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(echoes(), st.data())
def test_an_interface_through_everything(owner, interface, data):
    check_pure(interface)
    check_calls(interface, owner, data.draw, [data.draw(st.sampled_from(WAYS))])
