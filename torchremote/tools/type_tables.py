"""Makes the tables of types: `python -m torchremote types`, and docs/types.md. The compiler says every cell."""

from __future__ import annotations

import collections.abc
import enum
import typing
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import torch
import typing_extensions
from torch.distributed.rpc import RRef

from ..errors import NotYetSupportedError, UnsupportedTypeError
from ..jit import Interface
from ..jit.lower.plan import KEEP, MOVE_ANY, plan_type, wire_type
from ..jit.lower.source_names import SourceNames
from ..jit.read.annotations import read_type
from ..jit.read.model import Method
from ..jit.read.refusals import POSSIBLE
from ..jit.read.types import DICT_KEYS, Type


class Color(enum.Enum):
    """An enum for the tables."""

    RED = 1
    GREEN = 2


class Pair(NamedTuple):
    """A NamedTuple for the tables."""

    a: torch.Tensor
    color: Color


UserId = typing.NewType("UserId", int)
T = typing.TypeVar("T")
Vector = typing_extensions.TypeAliasType("Vector", list[float])

TYPES: Final = {
    "Tensor": "dense or sparse COO, of any dtype",
    "int": "64 bits",
    "float": "",
    "bool": "",
    "complex": "",
    "str": "",
    "None": "",
    "torch.device": "",
    "torch.dtype": "in the module's own TorchScript, an int",
    "Color": "an Enum whose values are all int, all float or all str; defined where every worker can import it",
    "Pair": "a NamedTuple, of fields of any of these types but Any; defined where every worker can import it",
    "Optional[Tensor]": "also Tensor | None",
    "Union[int, Pair]": "also int | Pair; of types that TorchScript can tell apart",
    "List[Tensor]": "also list[Tensor]",
    "Dict[str, Tensor]": f"keys: {', '.join(DICT_KEYS)}",
    "Tuple[Tensor, int]": "also tuple[Tensor, int]; every item is named",
    "Tuple[()]": "",
    "Any": "holds a tensor, a scalar, a list or dict (keys str or int) of these, or of such lists and dicts, as "
    "[x, None], {'a': x, 'b': None} and {'a': [x]}; also in tuples of up to eight, four deep, as (1, [x]); not "
    "[(x, 1)], [[x], None], {'a': {'b': None}}, [] or {}; a dtype in it arrives as an int, a NamedTuple as a tuple",
    "RRef[Tensor]": "the reference crosses, and the value stays; not of an enum or NamedTuple",
}
"""Types that can be written, each with a remark."""

SPELLINGS: Final = (
    "Sequence[Tensor]",
    "MutableSequence[int]",
    "Iterable[int]",
    "Collection[int]",
    "Mapping[str, Tensor]",
    "MutableMapping[str, int]",
    "OrderedDict[str, int]",
    "torch.Size",
    "torch.nn.Parameter",
    "torch.LongTensor",
    "Annotated[Tensor, 'of logits']",
    "Final[int]",
    "Literal['mean', 'sum']",
    "Literal[1, 2]",
    "UserId",
    "Vector",
    "'Tensor'",
    "List['Tensor']",
    "Optional[Union[int, None, Tensor]]",
    "Union[int, Any]",
)
"""Spellings that mean the nearest of those types, or that are refused with a remedy. `UserId` is a NewType, `Vector`
a type alias."""

REFUSED: Final = (
    "tuple[Tensor, ...]",
    "list",
    "Dict",
    "Literal[1, 'a']",
    "Dict[torch.device, int]",
    "Set[int]",
    "bytes",
    "Callable[[Tensor], Tensor]",
    "Iterator[Tensor]",
    "torch.futures.Future[Tensor]",
    "torch.Generator",
    "torch.nn.Module",
    "object",
    "T",
    "torch.layout",
    "torch.memory_format",
    "torch.SymInt",
)
"""Types that are refused when the interface is decorated. `T` is a TypeVar."""

_NAMES: Final[dict[str, Any]] = {
    **vars(typing),
    **{name: getattr(collections.abc, name) for name in ("Sequence", "Iterable", "Mapping", "Callable")},
    "Tensor": torch.Tensor,
    "torch": torch,
    "RRef": RRef,
    "Color": Color,
    "Pair": Pair,
    "UserId": UserId,
    "Vector": Vector,
    "T": T,
}


def meaning_of(written: str) -> Type:
    """Returns the type that an annotation of the tables means.

    Raises:
        UnsupportedTypeError: it means no type that can cross.
    """

    def holder() -> None: ...

    holder.__annotations__ = {"it": eval(written, _NAMES)}
    return read_type("it", typing.get_type_hints(holder, _NAMES)["it"])


def tables() -> str:
    """Returns the tables, in Markdown, with an empty line between them."""
    parts = [
        _table(("You write", "crosses as", "tensors", ""), _type_rows()),
        _table(("You write", "and mean"), _spelling_rows()),
        _table(("You write", "refused", "instead"), _refusal_rows()),
    ]
    return "\n".join(parts)


def _type_rows() -> Iterator[Sequence[str]]:
    for written, remark in TYPES.items():
        type = meaning_of(written)
        source_names = SourceNames(Interface("Table", (Method("row", (), type),)))
        wire = source_names.declared(wire_type(type))
        plan = plan_type(type, tensors=True, translates=True)
        still = plan_type(type, tensors=False, translates=True)
        moves = "none" if plan == still else "move, where it can be looked into" if plan == MOVE_ANY else "move"
        crosses = "itself" if wire == written else f"`{wire}`"
        yield f"`{written}`", crosses, moves if plan != KEEP else "none", remark


def _spelling_rows() -> Iterator[Sequence[str]]:
    for written in SPELLINGS:
        try:
            yield f"`{written}`", f"`{meaning_of(written)}`"
        except UnsupportedTypeError as error:
            yield f"`{written}`", f"refused: {_remedy(error)}"


def _refusal_rows() -> Iterator[Sequence[str]]:
    for written in REFUSED:
        try:
            yield f"`{written}`", "no", f"means {meaning_of(written)}"
        except UnsupportedTypeError as error:
            yield f"`{written}`", "not yet" if isinstance(error, NotYetSupportedError) else "never", _remedy(error)


def _remedy(error: UnsupportedTypeError) -> str:
    return str(error).partition(f"{POSSIBLE}; ")[2] or str(error).partition(": ")[2]


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    # A bar would end the cell.
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
