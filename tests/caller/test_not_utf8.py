"""Strings that are not UTF-8, as TorchScript makes them: it cuts strings by bytes, and Python has none of these."""

from typing import Any, Dict, List

import pytest
import torch

import torchremote as tr
from torchremote.errors import RemoteError


class Cutting:
    def text(self, first: int) -> str: ...
    def texts(self, first: int) -> List[str]: ...
    def keys(self, first: int) -> Dict[str, int]: ...
    def anything(self, first: int) -> Any: ...
    def fails(self, first: int) -> int: ...


class CuttingModule(torch.nn.Module):
    def text(self, first: int) -> str:
        return "\u1234b"[first:]

    def texts(self, first: int) -> List[str]:
        return ["a", self.text(first)]

    def keys(self, first: int) -> Dict[str, int]:
        return {self.text(first): 1}

    def anything(self, first: int) -> Any:
        return (self.text(first), 1)

    def fails(self, first: int) -> int:
        raise RuntimeError("no: " + self.text(first))


@pytest.fixture
def stub(owner):
    return tr.create(owner, Cutting, CuttingModule)


@pytest.mark.parametrize("method", ["text", "texts", "keys", "anything", "fails"])
def test_a_result_or_an_error_that_is_not_utf8_is_a_remote_error(stub, method):
    says = "not UTF-8, as when TorchScript cuts one inside a character; .*'utf-8' codec can't decode"
    with pytest.raises(RemoteError, match=rf"Cutting\.{method} on owner: .*{says}"):
        getattr(stub, method)(1)
    with pytest.raises(RemoteError, match=says):
        getattr(stub, f"{method}_async")(1).wait()
    with pytest.raises(RemoteError, match=says):
        getattr(stub, f"{method}_many")([(1,)])
    last = getattr(stub, f"{method}_many")([(0,), (1,)], return_exceptions=True)[1]
    assert isinstance(last, RemoteError)


def test_whole_characters_cross(stub):
    assert stub.text(0) == "\u1234b"
    assert stub.text(3) == "b"
