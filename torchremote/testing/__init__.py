"""Hypothesis strategies for interfaces, and a check that calls through a stub give what the module gives.

One line fuzzes an interface of yours, `check_interface(Encoder, LinearEncoder(8))`; or by hand::

    from hypothesis import given
    from torchremote import testing

    @given(testing.calls(Encoder, "forward"))
    def test_encoder(call):
        args, kwargs = call
        assert testing.same(stub(*args, **kwargs), module(*args, **kwargs))

Needs hypothesis: `pip install 'torchremote[test]'`.
"""

from .check import check_interface, same
from .strategies import calls, interfaces, signatures, tensors, types, values

__all__ = ["calls", "check_interface", "interfaces", "same", "signatures", "tensors", "types", "values"]
