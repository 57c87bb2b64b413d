"""The interfaces and modules that tests share. Importable by every worker; nothing here is specific to one test."""

import collections
import enum
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

import torch
from torch import Tensor, nn
from torch.distributed.rpc import RRef

import torchremote
from torchremote.jit.parse import parse_interface


def interface_of(text, name="__torch__.zoo.Written"):
    return parse_interface(name, text)


class Color(enum.Enum):
    RED = 1
    GREEN = 2
    CRIMSON = 1  # another name of RED, and no member


class Mode(enum.Enum):
    TRAIN = 'tr"ain\n'
    EVAL = "eval"


class Level(enum.IntEnum):
    LOW = -5
    HIGH = 5


class Ratio(enum.Enum):
    NONE = -0.0
    ALL = float("inf")


class Pair(NamedTuple):
    a: Tensor
    b: int = 3


class Painted(NamedTuple):
    pair: Pair
    colors: List[Color]
    by_name: Dict[str, Tuple[Pair, Mode]]
    maybe: Optional[Tensor] = None
    dtype: torch.dtype = torch.float32


class Nothing(NamedTuple):
    pass


Untyped = collections.namedtuple("Untyped", "left right")

NAMED = (Color, Mode, Level, Ratio, Pair, Painted, Nothing, Untyped)


@torchremote.remote_scriptable
class Encoder:
    """A docstring, an ellipsis, a pass and a raise: bodies are not read."""

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor: ...

    def topk(self, x: Tensor, *, k: int = 2) -> tuple[Tensor, Tensor]:
        """The k largest."""

    def reset(self) -> None:
        pass

    def fail(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class LinearEncoder(nn.Module):
    def __init__(self, size: int = 8, seed: int = 0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)  # its own: threads share the global one
        self.linear = nn.Linear(size, size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.3, 0.3, generator=generator)

    @classmethod
    @torch.jit.unused
    def output(cls, seed, x):
        """What a module made with `seed` gives for `x`, computed here."""
        return cls(seed=seed)(x, 1.0)

    def forward(self, x: Tensor, scale: float) -> Tensor:
        return self.linear(x) * scale

    def topk(self, x: Tensor, k: int) -> Tuple[Tensor, Tensor]:
        return x.topk(k)

    def reset(self) -> None:
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def fail(self, x: Tensor) -> Tensor:
        raise ValueError("this method fails")


class Raising(nn.Module):
    def __init__(self):
        super().__init__()
        raise KeyError("no such weights")


class WrongArgument(LinearEncoder):
    def forward(self, x: Tensor, scale: int) -> Tensor:
        return x * scale


class WrongName(LinearEncoder):
    def forward(self, input: Tensor, scale: float) -> Tensor:
        return input * scale


class WrongResult(LinearEncoder):
    def topk(self, x: Tensor, k: int) -> Tensor:
        return x.topk(k)[0]


class TooMany(LinearEncoder):
    def forward(self, x: Tensor, scale: float, more: int = 1) -> Tensor:
        return x * scale * more


class NotScriptable(LinearEncoder):
    def forward(self, x: Tensor, scale: float) -> Tensor:
        return __import__("numpy").array(x) * scale


class Missing(nn.Module):
    def forward(self, x: Tensor, scale: float) -> Tensor:
        return x


@torchremote.remote_scriptable
class Deep:
    def forward(
        self, a: List[Dict[str, Optional[Tuple[Tensor, int]]]], b: Optional[List[Tensor]] = None
    ) -> Tuple[Tensor, Dict[int, List[Tensor]], Optional[str]]: ...


class DeepEcho(nn.Module):
    def forward(
        self, a: List[Dict[str, Optional[Tuple[Tensor, int]]]], b: Optional[List[Tensor]]
    ) -> Tuple[Tensor, Dict[int, List[Tensor]], Optional[str]]:
        total = torch.zeros(2)
        for entry in a:
            for pair in entry.values():
                if pair is not None:
                    total = total + pair[0] * pair[1]
        if b is None:
            return total, {0: [total]}, "no b"
        return total, {1: b}, None


@torchremote.remote_scriptable
class Awkward:
    def forward(self, torch: Tensor, device: str, args: int, kwargs: int, module: float, self_: bool) -> Tensor: ...
    def encode(this, self: Tensor, out: int, result: Optional[Tensor], table: List[Tensor]) -> Tensor: ...


class AwkwardModule(nn.Module):
    def forward(self, torch: Tensor, device: str, args: int, kwargs: int, module: float, self_: bool) -> Tensor:
        return torch * args + kwargs + module + len(device) + int(self_)

    def encode(this, self: Tensor, out: int, result: Optional[Tensor], table: List[Tensor]) -> Tensor:
        return self + out + len(table) if result is None else self + result


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


@torchremote.remote_scriptable
class Counters:
    def count(self, names: Dict[str, int], limit: Optional[int] = None) -> List[Tuple[str, int]]: ...


class CountersModule(nn.Module):
    def count(self, names: Dict[str, int], limit: Optional[int]) -> List[Tuple[str, int]]:
        return list(names.items())


@torchremote.remote_scriptable
class Sleeper:
    def forward(self, x: Tensor, rounds: int) -> Tensor: ...


class SlowLoop(nn.Module):
    def forward(self, x: Tensor, rounds: int) -> Tensor:
        for _ in range(rounds):
            x = x + 1
        return x


class HalfGood(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x

    def good(self, x: Tensor) -> Tensor:
        return x + 1

    def bad(self, x: Tensor) -> Tensor:
        return x.no_such_method()


class Repeating(nn.Module):
    def forward(self, words: str) -> Tensor:
        raise RuntimeError(words)


class PythonForward(nn.Module):
    def forward(self, *args, **kwargs):
        return NotImplemented

    def good(self, x: Tensor) -> Tensor:
        return x + 1


class KeywordOnly(nn.Module):
    def forward(self, x: Tensor, *, k: int) -> Tensor:
        return x * k
