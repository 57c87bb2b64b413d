# Written from parts.py by `python -m torchremote stubs parts`. Do not edit: write it again when parts.py has changed.
# mypy: disable-error-code="override"
# pyright: basic, reportArgumentType=false, reportAssignmentType=false, reportAttributeAccessIssue=false
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportIncompatibleMethodOverride=false
# pyright: reportIncompatibleVariableOverride=false, reportIndexIssue=false, reportOperatorIssue=false
# pyright: reportOptionalCall=false, reportOptionalContextManager=false, reportOptionalIterable=false
# pyright: reportOptionalMemberAccess=false, reportOptionalOperand=false, reportOptionalSubscript=false
# pyright: reportRedeclaration=false, reportReturnType=false, reportSelfClsParameterName=false
# pyright: reportTypedDictNotRequiredAccess=false
# ruff: noqa
# fmt: off
"""A part of the model: what the two owners have, and nobody else needs once the model is trained."""

import abc as _abc
import typing as _typing
import torchremote.caller.typed as _stubs
import torch as torch
from torch import Tensor as Tensor, nn as nn

import torchremote as tr


@tr.remote_scriptable
class Half:
    """One half of an image, [n, 32] float32 in 0..1 -> what it tells, [n, 16] float32."""

    @classmethod
    def __torchremote_stub__(cls) -> HalfStub: ...

    def forward(self, pixels: Tensor) -> Tensor: ...

@_typing.type_check_only
class HalfStub(Half, _stubs.TypedStub):
    def forward(self, pixels: Tensor) -> Tensor: ...
    def __call__(self, pixels: Tensor) -> Tensor: ...
    def forward_async(self, pixels: Tensor) -> _stubs.Answer[Tensor]:
        """Returns a torch.futures.Future of the result, at once."""
    def forward_remote(self, pixels: Tensor) -> _stubs.RRef[Tensor]:
        """Returns an RRef of the result, at once. The result stays where the module is."""
    forward_many: _stubs.Many[tuple[Tensor], Tensor]
    forward_many_async: _stubs.ManyAsync[tuple[Tensor], Tensor]


class HalfEncoder(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.hidden = nn.Linear(32, 64)
        self.out = nn.Linear(64, 16)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.out(self.hidden(pixels).relu()).relu()
