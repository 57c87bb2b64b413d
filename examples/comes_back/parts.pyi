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
"""The model that the parameter server has."""

import abc as _abc
import typing as _typing
import torchremote.caller.typed as _stubs
import torch as torch
from torch import Tensor as Tensor, nn as nn

import torchremote as tr


@tr.remote_scriptable
class Regressor:
    """[n, 16] float32 -> [n, 1] float32."""

    @classmethod
    def __torchremote_stub__(cls) -> RegressorStub: ...

    def forward(self, x: Tensor) -> Tensor: ...

@_typing.type_check_only
class RegressorStub(Regressor, _stubs.TypedStub):
    def forward(self, x: Tensor) -> Tensor: ...
    def __call__(self, x: Tensor) -> Tensor: ...
    def forward_async(self, x: Tensor) -> _stubs.Answer[Tensor]:
        """Returns a torch.futures.Future of the result, at once."""
    def forward_remote(self, x: Tensor) -> _stubs.RRef[Tensor]:
        """Returns an RRef of the result, at once. The result stays where the module is."""
    forward_many: _stubs.Many[tuple[Tensor], Tensor]
    forward_many_async: _stubs.ManyAsync[tuple[Tensor], Tensor]


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(16, 64)
        self.out = nn.Linear(64, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.hidden(x).tanh())
        return y


def begin() -> nn.Module:
    """Makes the model as it is before the first step."""
    torch.manual_seed(0)
    return TwoLayers()
