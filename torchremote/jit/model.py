"""What an interface is: frozen, printable, parseable, digestible. Nothing here knows torch.

Note [Canonical text]
    An interface is written as one line a method, sorted by the method's name::

        forward(x: Tensor, scale: float) -> Tensor
        topk(x: Tensor, k: int) -> Tuple[Tensor, Tensor]

    This is the contract between caller and owner. The digest hashes it, and the owner is sent it when it has to
    compile an interface that it never imported. The class's name, docstrings, default values and keyword-only
    markers are the caller's own affair and are not part of it; argument names are, because TorchScript compares
    them when it checks a module against an interface.
"""

from __future__ import annotations

import ast
import hashlib
import keyword
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Union


@dataclass(frozen=True)
class TensorType:
    def __str__(self) -> str:
        return "Tensor"


@dataclass(frozen=True)
class ScalarType:
    """A value that crosses as it is: int, float, bool, str or None."""

    name: str

    def __post_init__(self) -> None:
        if self.name not in SCALARS:
            raise ValueError(f"{self.name!r} is not one of {', '.join(SCALARS)}")

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class OptionalType:
    item: Type

    def __post_init__(self) -> None:
        # One spelling for one type: TorchScript flattens the first and has no use for the second.
        if isinstance(self.item, OptionalType) or self.item == NONE:
            raise ValueError(f"Optional[{self.item}] is {self.item}")

    def __str__(self) -> str:
        return f"Optional[{self.item}]"


@dataclass(frozen=True)
class ListType:
    item: Type

    def __str__(self) -> str:
        return f"List[{self.item}]"


@dataclass(frozen=True)
class DictType:
    key: ScalarType
    value: Type

    def __post_init__(self) -> None:
        if str(self.key) not in DICT_KEYS:
            raise ValueError(f"a Dict's key is one of {', '.join(DICT_KEYS)}, not {self.key}")

    def __str__(self) -> str:
        return f"Dict[{self.key}, {self.value}]"


@dataclass(frozen=True)
class TupleType:
    items: tuple[Type, ...]

    def __str__(self) -> str:
        return f"Tuple[{', '.join(map(str, self.items)) or '()'}]"


Type = Union[TensorType, ScalarType, OptionalType, ListType, DictType, TupleType]

SCALARS: Final = ("int", "float", "bool", "str", "None")
DICT_KEYS: Final = ("str", "int", "float", "bool")
TENSOR: Final = TensorType()
NONE: Final = ScalarType("None")


class _Required:
    """The default of an argument that has none; None is a default like any other."""

    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED: Final = _Required()


@dataclass(frozen=True)
class Argument:
    name: str
    type: Type
    default: object = REQUIRED  # a value of `type`, without lists and dicts
    keyword_only: bool = False

    def __post_init__(self) -> None:
        _check_name(self.name)

    @property
    def has_default(self) -> bool:
        return self.default is not REQUIRED

    def __str__(self) -> str:
        return f"{self.name}: {self.type}"


@dataclass(frozen=True)
class Method:
    name: str
    arguments: tuple[Argument, ...]  # in the order in which they cross: keyword-only ones last
    returns: Type

    def __post_init__(self) -> None:
        _check_name(self.name)
        names = [argument.name for argument in self.arguments]
        if len(set(names)) != len(names):
            raise ValueError(f"two arguments of one name in {self}")
        kinds = [argument.keyword_only for argument in self.arguments]
        if kinds != sorted(kinds):
            raise ValueError(f"a keyword-only argument before a positional one in {self}")

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.arguments))}) -> {self.returns}"


@dataclass(frozen=True)
class Interface:
    qualified_name: str  # the class's module and name, as TorchScript spells them; not part of the wire
    methods: tuple[Method, ...]  # sorted by name

    def __post_init__(self) -> None:
        _check_name(self.name)
        names = [method.name for method in self.methods]
        if not names:
            raise ValueError(f"{self.name} has no methods")
        if names != sorted(set(names)):
            raise ValueError(f"the methods of {self.name} are not sorted, or two have one name: {names}")

    @property
    def name(self) -> str:
        return self.qualified_name.rpartition(".")[2]

    @property
    def text(self) -> str:
        """The canonical text: see Note [Canonical text]."""
        return "\n".join(map(str, self.methods))

    @property
    def digest(self) -> str:
        return hashlib.blake2b(self.text.encode(), digest_size=8).hexdigest()

    def method(self, name: str) -> Method | None:
        return next((method for method in self.methods if method.name == name), None)


def parse_interface(name: str, text: str) -> Interface:
    """The interface that `text` is the canonical text of.

    Raises:
        ValueError: `text` is not canonical: printing what was read does not give it back.
    """
    interface = Interface(name, tuple(_parse_method(line) for line in text.split("\n")))
    if interface.text != text:
        raise ValueError(f"not a canonical interface text:\n{text}")
    return interface


def _parse_method(line: str) -> Method:
    # A line is a Python signature, so Python's parser reads it; nothing is evaluated.
    match _parse(f"def {line}: ...").body:
        case [ast.FunctionDef(name=name, args=arguments, returns=ast.expr() as returns)]:
            return Method(name, tuple(_arguments(arguments)), _parse_type(returns))
    raise ValueError(f"not a method: {line!r}")


def parse_type(text: str) -> Type:
    """The type that prints as `text`."""
    match _parse(text).body:
        case [ast.Expr(value=node)]:
            found = _parse_type(node)
        case _:
            raise ValueError(f"not a type: {text!r}")
    if str(found) != text:
        raise ValueError(f"not a canonical type: {text!r}")
    return found


def _parse(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"not canonical: {text!r}") from error


def _arguments(arguments: ast.arguments) -> Iterator[Argument]:
    for argument in arguments.args:
        if argument.annotation is None:
            raise ValueError(f"argument {argument.arg!r} has no type")
        yield Argument(argument.arg, _parse_type(argument.annotation))


def _parse_type(node: ast.expr) -> Type:
    match node:
        case ast.Name(id="Tensor"):
            return TENSOR
        case ast.Name(id=name):
            return ScalarType(name)
        case ast.Constant(value=None):
            return NONE
        case ast.Subscript(value=ast.Name(id="Optional"), slice=item):
            return OptionalType(_parse_type(item))
        case ast.Subscript(value=ast.Name(id="List"), slice=item):
            return ListType(_parse_type(item))
        case ast.Subscript(value=ast.Name(id="Dict"), slice=ast.Tuple(elts=[key, value])):
            key_type = _parse_type(key)
            if isinstance(key_type, ScalarType):
                return DictType(key_type, _parse_type(value))
        case ast.Subscript(value=ast.Name(id="Tuple"), slice=ast.Tuple(elts=items)):
            return TupleType(tuple(map(_parse_type, items)))
        case ast.Subscript(value=ast.Name(id="Tuple"), slice=item):
            return TupleType((_parse_type(item),))
    raise ValueError(f"not a type: {ast.unparse(node)}")


def _check_name(name: str) -> None:
    # Names go into generated source and, in a saved model, through TorchScript's lexer, which knows ASCII only.
    if not (name.isidentifier() and name.isascii()) or keyword.iskeyword(name):
        raise ValueError(f"{name!r} is not an ASCII identifier")
