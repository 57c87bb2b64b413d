"""Says how long to wait between two tries."""

from __future__ import annotations

import random
from typing import Final

_FIRST: Final = 0.05
_LONGEST: Final = 2.0
"""Seconds. Each pause is twice the one before, up to the longest one, less a random part: so that many callers that
lost one owner do not ask all at once when it is back."""


def pause_of(number: int, longest: float = _LONGEST) -> float:
    """Returns the seconds of a pause.

    Args:
        number: how many there were before.
        longest: seconds that it takes at most.
    """
    return min(_FIRST * 2.0 ** min(number, 16), longest) * random.uniform(0.5, 1.0)
