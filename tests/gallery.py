"""Interfaces and modules of every type, for the tests of types and movement; zoo.py has the classes that they name."""

from typing import Any, Dict, List, Optional, Tuple, Union

import torch
from torch import Tensor, nn
from torch.distributed.rpc import RRef

import torchremote

from .zoo import Color, Mode, Nothing, Painted, Pair, Untyped


@torchremote.remote_scriptable
class Painter:
    """Everything that crosses as something else."""

    def forward(
        self,
        x: Tensor,
        color: Color = Color.GREEN,
        dtype: torch.dtype = torch.float32,
        *,
        device: torch.device = torch.device("cpu"),
    ) -> Painted: ...

    def either(
        self, value: Union[int, List[int], Tensor, Color, Pair, None] = 1
    ) -> Union[int, List[int], Tensor, Color, Pair, None]: ...

    def anything(self, value: Any) -> Any: ...

    def dtype_of(self, x: Tensor) -> torch.dtype: ...

    def count(
        self, painted: List[Painted], by_color: Dict[str, Color], by_dtype: Dict[torch.dtype, complex]
    ) -> Tuple[int, Color]: ...


class PainterModule(nn.Module):
    def forward(self, x: Tensor, color: Color, dtype: torch.dtype, device: torch.device) -> Painted:
        pair = Pair(x.to(device=device, dtype=dtype), 5)
        mode = Mode.EVAL if color == Color.RED else Mode.TRAIN
        return Painted(pair, [color, Color.RED], {"only": (pair, mode)}, None, dtype)

    def either(
        self, value: Optional[Union[int, List[int], Tensor, Color, Pair]]
    ) -> Optional[Union[int, List[int], Tensor, Color, Pair]]:
        return value

    def anything(self, value: Any) -> Any:
        return value

    def dtype_of(self, x: Tensor) -> int:
        return x.dtype

    def count(
        self, painted: List[Painted], by_color: Dict[str, Color], by_dtype: Dict[int, complex]
    ) -> Tuple[int, Color]:
        total = len(by_dtype)
        for one in painted:
            total += one.pair.b
        return total, by_color["last"]


@torchremote.remote_scriptable
class Everywhere:
    """A tensor in every kind of place."""

    def forward(
        self,
        plain: Tensor,
        listed: List[Tensor],
        maybe: Dict[str, Optional[Tensor]],
        painted: Painted,
        either: Union[Tensor, int],
        anything: Any,
        keys: Dict[Tensor, int],
        deep: Tuple[int, Tuple[Tensor, str]],
    ) -> Tuple[
        List[str],
        Tuple[
            Tensor,
            List[Tensor],
            Dict[str, Optional[Tensor]],
            Painted,
            Union[Tensor, int],
            Any,
            Dict[Tensor, int],
            Tuple[int, Tuple[Tensor, str]],
        ],
    ]: ...


class EverywhereModule(nn.Module):
    """Says on which device each tensor came, and returns them all, the first times a weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((2,), 3.0), requires_grad=False)

    def forward(
        self,
        plain: Tensor,
        listed: List[Tensor],
        maybe: Dict[str, Optional[Tensor]],
        painted: Painted,
        either: Union[Tensor, int],
        anything: Any,
        keys: Dict[Tensor, int],
        deep: Tuple[int, Tuple[Tensor, str]],
    ) -> Tuple[
        List[str],
        Tuple[
            Tensor,
            List[Tensor],
            Dict[str, Optional[Tensor]],
            Painted,
            Union[Tensor, int],
            Any,
            Dict[Tensor, int],
            Tuple[int, Tuple[Tensor, str]],
        ],
    ]:
        found = [plain.device.type, painted.pair.a.device.type, deep[1][0].device.type]
        for part in listed:
            found.append(part.device.type)
        for value in maybe.values():
            if value is not None:
                found.append(value.device.type)
        for pair, _ in painted.by_name.values():
            found.append(pair.a.device.type)
        if isinstance(either, Tensor):
            found.append(either.device.type)
        if isinstance(anything, Tuple[int, Any]):
            inner = anything[1]
            if isinstance(inner, List[Tensor]):
                found.append(inner[0].device.type)
        for key in keys:
            found.append(key.device.type)
        return found, (plain * self.weight, listed, maybe, painted, either, anything, keys, deep)


@torchremote.remote_scriptable
class Choosing:
    """Unions whose members TorchScript mixes up where branches join."""

    def forward(self, xs: List[Union[Pair, Untyped]]) -> List[Union[Pair, Untyped]]: ...
    def maybe(self, xs: List[Optional[Union[Nothing, int, str]]]) -> Dict[str, Optional[Union[Nothing, int, str]]]: ...


class ChoosingModule(nn.Module):
    def forward(self, xs: List[Union[Pair, Untyped]]) -> List[Union[Pair, Untyped]]:
        return xs

    def maybe(self, xs: List[Optional[Union[Nothing, int, str]]]) -> Dict[str, Optional[Union[Nothing, int, str]]]:
        return {"only": xs[0]}


@torchremote.remote_scriptable
class Tinting:
    def forward(self, color: Color) -> Color: ...


class TintingModule(nn.Module):
    def forward(self, color: Color) -> Color:
        return color


@torchremote.remote_scriptable
class Scaling:
    def forward(self, pair: Pair, by: Union[Tensor, int], anything: Any) -> Tuple[Pair, Any]: ...


class ScalingModule(nn.Module):
    """Products, for gradients."""

    def forward(self, pair: Pair, by: Union[Tensor, int], anything: Any) -> Tuple[Pair, Any]:
        scaled = pair.a
        if isinstance(by, Tensor):
            scaled = scaled * by
        if isinstance(anything, List[Tensor]):
            return Pair(scaled, 1), [anything[0] * scaled]
        return Pair(scaled, 1), anything


@torchremote.remote_scriptable
class References:
    def forward(self, ref: RRef[Tensor], refs: Dict[str, List[RRef[Tensor]]]) -> Tuple[Tensor, RRef[Tensor]]: ...


class ReferencesModule(nn.Module):
    def forward(self, ref: RRef[Tensor], refs: Dict[str, List[RRef[Tensor]]]) -> Tuple[Tensor, RRef[Tensor]]:
        return ref.to_here() + refs["a"][0].to_here(), ref


@torchremote.remote_scriptable
class Unsendable:
    def nested(self, parts: List[Tensor]) -> Tensor: ...
    def meta(self, parts: List[Tensor]) -> Dict[str, List[Tensor]]: ...
    def inside_any(self, parts: List[Tensor]) -> Any: ...
    def empty_view(self, x: Tensor) -> List[Tensor]: ...


class UnsendableModule(nn.Module):
    def nested(self, parts: List[Tensor]) -> Tensor:
        return torch._nested_tensor_from_tensor_list(parts)

    def meta(self, parts: List[Tensor]) -> Dict[str, List[Tensor]]:
        return {"a": [parts[0].to(device="meta")]}

    def inside_any(self, parts: List[Tensor]) -> Any:
        return (1, [torch._nested_tensor_from_tensor_list(parts)])

    def empty_view(self, x: Tensor) -> List[Tensor]:
        return [x[:, 1:]]
