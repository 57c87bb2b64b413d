"""A few rounds of `make rounds`, so that it does not rot. What it finds is found by its long runs."""

from torchremote import native

from . import rounds
from .nursery import in_a_group


@in_a_group(timeout=200)
def test_idempotent_calls_have_no_error_and_nobody_hangs(nursery):
    for wrong, right, _ in rounds.run(nursery, 12).values():
        assert not wrong, "\n".join(wrong)
        assert len(right) == 8 + native.available()
        assert min(right.values()) > 5, right
