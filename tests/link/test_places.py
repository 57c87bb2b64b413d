"""What places are found, and what the errors say where none is."""

import pytest
import torch

from torchremote.errors import PlaceError
from torchremote.link.places import check_device
from torchremote.link.words import first_line


def test_what_an_error_says_in_a_line():
    assert first_line(ValueError(" one\ntwo")) == "one"
    assert first_line(EOFError()) == "EOFError"
    assert first_line(RuntimeError("\n")) == "RuntimeError"


def test_a_backend_that_fails_without_a_word(monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError

    monkeypatch.setattr(torch, "empty", fail)
    with pytest.raises(PlaceError, match=r"^device 'cpu': not on this worker, .*; name one of these \(RuntimeError\)$"):
        check_device("cpu")
