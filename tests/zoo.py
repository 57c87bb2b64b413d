"""Interfaces and modules for tests, where every worker can import them."""

import collections
import enum
from typing import Dict, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn

import torchremote
from torchremote import _torch
from torchremote.jit.read.parse import parse_interface


def interface_of(text, name="__torch__.zoo.Written"):
    return parse_interface(name, text)


def type_of(text, *named):
    """Reads a type from its canonical text. `named`: its enums and NamedTuples, each after those that it refers to."""
    definitions = "".join(f"{one.definition}\n" for one in named)
    others = "".join(f", other_{number}: {one.name}" for number, one in enumerate(named))
    return interface_of(f"{definitions}f(x: {text}{others}) -> None").methods[0].arguments[0].type


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


class Two(NamedTuple):
    a: Tensor
    b: Tensor


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
        """Returns what a module made with `seed` gives for `x`, computed here."""
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


def refill(module_rref, seed=0):
    """On the owner: as the module was when it was made."""
    module = _torch.as_python_module(module_rref.local_value())
    module.load_state_dict(LinearEncoder(seed=seed).state_dict())


class Other:
    """Not the Encoder that callers expect."""

    def forward(self, x: Tensor, scale: int) -> Tensor: ...
    def topk(self, x: Tensor) -> Tensor: ...
    def reset(self) -> None: ...


class OtherModule(nn.Module):
    def forward(self, x: Tensor, scale: int) -> Tensor:
        return x

    def topk(self, x: Tensor) -> Tensor:
        return x

    def reset(self) -> None:
        pass


class RicherModule(nn.Module):
    """An Encoder, and more."""

    def forward(self, x: Tensor, scale: float) -> Tensor:
        return x * scale

    def topk(self, x: Tensor, k: int) -> Tuple[Tensor, Tensor]:
        return x, x

    def reset(self) -> None:
        pass

    def fail(self, x: Tensor) -> Tensor:
        return x

    def more(self) -> int:
        return 1


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


class WhereIs:
    def forward(self, x: Tensor) -> str: ...


class WhereIsModule(nn.Module):
    """Has no tensors of its own."""

    def forward(self, x: Tensor) -> str:
        return x.device.type
