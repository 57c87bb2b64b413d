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
"""A small language model in two halves, written as models are written today: TorchScript refuses all of it."""

import abc as _abc
import typing as _typing
import torchremote.caller.typed as _stubs
import dataclasses as dataclasses
from typing import Any as Any

import torch as torch
from torch import Tensor as Tensor, nn as nn

import torchremote as tr


@tr.remote_scriptable
class Half:
    """Half of a model. It keeps the keys and values of what it has read, so each call brings only what is new.

    input: characters, [1, n] int64, for the front; [1, n, width] float32 for the back.
    start: how many characters it has read before.
    Returns [1, n, width] float32, or, of the back, the logits of each next character, [1, n, characters] float32.
    """

    @classmethod
    def __torchremote_stub__(cls) -> HalfStub: ...

    def forward(self, input: Tensor, start: int) -> Tensor: ...

@_typing.type_check_only
class HalfStub(Half, _stubs.TypedStub):
    def forward(self, input: Tensor, start: int) -> Tensor: ...
    def __call__(self, input: Tensor, start: int) -> Tensor: ...
    def forward_async(self, input: Tensor, start: int) -> _stubs.Answer[Tensor]:
        """Returns a torch.futures.Future of the result, at once."""
    def forward_remote(self, input: Tensor, start: int) -> _stubs.RRef[Tensor]:
        """Returns an RRef of the result, at once. The result stays where the module is."""
    forward_many: _stubs.Many[tuple[Tensor, int], Tensor]
    forward_many_async: _stubs.ManyAsync[tuple[Tensor, int], Tensor]


@dataclasses.dataclass
class Shape:
    characters: int
    width: int = 64
    heads: int = 4
    layers: int = 2
    longest: int = 256


class Block(nn.Module):
    keys: Tensor
    values: Tensor

    def __init__(self, shape: Shape):
        super().__init__()
        self.heads = shape.heads
        self.before, self.between = nn.LayerNorm(shape.width), nn.LayerNorm(shape.width)
        self.attend, self.joined = nn.Linear(shape.width, 3 * shape.width), nn.Linear(shape.width, shape.width)
        self.think = nn.Sequential(
            nn.Linear(shape.width, 4 * shape.width), nn.GELU(), nn.Linear(4 * shape.width, shape.width)
        )
        cache = torch.zeros(1, shape.heads, shape.longest, shape.width // shape.heads)
        self.register_buffer("keys", cache, persistent=False)
        self.register_buffer("values", cache.clone(), persistent=False)

    def forward(self, x: Tensor, *, start: int | None = None, **options: Any) -> Tensor:
        parts = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.attend(self.before(x)).chunk(3, -1)
        )
        query, key, value = parts
        if start is not None:
            end = start + x.shape[1]
            self.keys[:, :, start:end] = key
            self.values[:, :, start:end] = value
            key, value = self.keys[:, :, :end], self.values[:, :, :end]
        read = key.shape[2] - query.shape[2]
        sees = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril(read)
        attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=sees)
        x = x + self.joined(attended.transpose(1, 2).flatten(2))
        return x + self.think(self.between(x))


class Front(nn.Module):
    """From characters to what the first layers make of them."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.characters, self.places = (nn.Embedding(n, shape.width) for n in (shape.characters, shape.longest))
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))

    def forward(self, input: Tensor, start: int | None = None) -> Tensor:
        first = 0 if start is None else start
        x = self.characters(input) + self.places(torch.arange(first, first + input.shape[1]))
        for block in self.blocks:
            x = block(x, start=start, ignored=None)
        return x


class Back(nn.Module):
    """From there to the logits of the next character."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.head = nn.Sequential(nn.LayerNorm(shape.width), nn.Linear(shape.width, shape.characters))

    def forward(self, input: Tensor, start: int | None = None) -> Tensor:
        for block in self.blocks:
            input = block(input, start=start)
        return self.head(input)
