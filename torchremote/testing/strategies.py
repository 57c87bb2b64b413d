"""Hypothesis strategies: types, values of a type, calls of an interface, signatures, interfaces."""

from __future__ import annotations

import functools
import keyword
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import torch
import torch.distributed.rpc as rpc
from hypothesis import strategies as st

from ..errors import MismatchError
from ..jit import Classes, compile_interface
from ..jit.read.annotations import read_type
from ..jit.read.literals import DeviceValue, DtypeValue, MemberValue, NamedTupleValue, Value
from ..jit.read.model import REQUIRED, Argument, Interface, Method
from ..jit.read.types import (
    ANY,
    DICT_KEYS,
    NONE,
    SCALARS,
    TENSOR,
    AnyType,
    DictType,
    EnumType,
    ListType,
    NamedTupleType,
    OptionalType,
    RRefType,
    ScalarType,
    TupleType,
    Type,
    UnionType,
)

# -- types


def types(named: Iterable[type] = (), max_leaves: int = 6) -> st.SearchStrategy[Type]:
    """Draws types of the compiler's own model, of every kind but RRef, which needs a running RPC.

    Args:
        named: Enum and NamedTuple classes that may be among them.
        max_leaves: about how large they get.

    >>> from hypothesis import find
    >>> str(find(types(), lambda type: isinstance(type, ListType)))
    'List[Tensor]'
    """
    return _types(tuple(named), max_leaves)


@functools.cache  # hypothesis prepares a strategy once
def _types(named: tuple[type, ...], max_leaves: int) -> st.SearchStrategy[Type]:
    leaves = st.one_of(
        st.just(TENSOR),
        st.sampled_from([ScalarType(name) for name in SCALARS]),
        st.sampled_from([ANY, *(read_type("named", cls) for cls in named)]),
    )
    return st.recursive(leaves, _containers, max_leaves=max_leaves)


def _containers(inner: st.SearchStrategy[Type]) -> st.SearchStrategy[Type]:
    keys = st.sampled_from([TENSOR if key == "Tensor" else ScalarType(key) for key in DICT_KEYS])
    return st.one_of(
        inner.filter(_can_be_optional).map(OptionalType),
        inner.map(ListType),
        st.builds(DictType, keys, inner),
        st.lists(inner, max_size=3).map(tuple).map(TupleType),
        st.lists(inner, min_size=2, max_size=3).map(_union).filter(bool),
    )


def _can_be_optional(kind: Type) -> bool:
    return kind not in (NONE, ANY) and not isinstance(kind, OptionalType)


def _union(items: Sequence[Type]) -> Any:
    if sum(isinstance(item, (TupleType, NamedTupleType)) for item in items) > 1:
        return None  # TorchScript gets many of these wrong
    try:
        return UnionType(tuple(sorted(set(items), key=str)))
    except ValueError:
        return None  # two that TorchScript cannot tell apart


# -- values


@st.composite
def tensors(draw: st.DrawFn, *, dtype: torch.dtype | None = None, shape: Sequence[int] | None = None) -> torch.Tensor:
    """Draws CPU tensors of many dtypes, of 0 to 3 dimensions, some empty, some views with other strides.

    Args:
        dtype: the one dtype, if there is to be one.
        shape: the one shape, if there is to be one; strides and values vary.

    >>> from hypothesis import find
    >>> find(tensors(dtype=torch.float32, shape=(2, 3)), lambda tensor: True).shape
    torch.Size([2, 3])
    """
    chosen = draw(st.sampled_from(_DTYPES)) if dtype is None else dtype
    sizes = draw(st.lists(st.integers(0, 3), max_size=3)) if shape is None else list(shape)
    count = torch.Size(sizes).numel()
    plain = (torch.arange(count) % 97 - draw(st.integers(0, 5))).to(chosen)
    if shape is not None:
        transposed = bool(sizes) and draw(st.booleans())
        return plain.reshape(sizes[::-1]).permute(*reversed(range(len(sizes)))) if transposed else plain.reshape(sizes)
    views: list[Callable[[torch.Tensor], torch.Tensor]] = [lambda plain: plain, lambda plain: plain.expand(2, *sizes)]
    if sizes:
        views += [lambda plain: plain.transpose(0, -1), lambda plain: plain[::2], lambda plain: plain[1:]]
    return draw(st.sampled_from(views))(plain.reshape(sizes))


_DTYPES: Final = [
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.complex128),
    *(torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool),
]
_SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(),
    "bool": st.booleans(),
    "complex": st.complex_numbers(),
    "str": st.text(st.characters(exclude_categories=["Cs"]), max_size=5),  # no lone surrogates
    "None": st.none(),
    "device": st.sampled_from(["cpu", "cuda", "cuda:1", "meta"]).map(torch.device),
    "dtype": st.sampled_from([torch.float32, torch.int8, torch.bfloat16, torch.complex64, torch.bool]),
}


def values(
    type: Any, *, tensors: st.SearchStrategy[Any] | None = None, classes: Classes | None = None
) -> st.SearchStrategy[Any]:
    """Draws Python values of a type.

    Args:
        type: an annotation, such as `List[Tensor]`, or a type of the model.
        tensors: the tensors in them; `tensors()` unless given.
        classes: those of the enums and NamedTuples in a type of the model.

    >>> from hypothesis import find
    >>> find(values(list[int]), lambda value: len(value) == 2)
    [0, 0]
    """
    found: Classes = dict(classes or {})
    if not isinstance(type, Type.__args__):  # type: ignore[attr-defined]
        interface = Interface("Values", (Method("value", (), read_type("value", type)),))
        found |= compile_interface(interface).contract.classes
        type = interface.methods[0].returns
    return _values(type, _tensors() if tensors is None else tensors, found)


_tensors = tensors


def _values(kind: Type, tensors: st.SearchStrategy[Any], classes: Classes) -> st.SearchStrategy[Any]:
    def inner(kind: Type) -> st.SearchStrategy[Any]:
        return _values(kind, tensors, classes)

    match kind:
        case ScalarType(name):
            return _SCALARS[name]
        case AnyType():
            # Python can say the type of a list or dict that is not empty, of things of one type.
            plain: list[Type] = [TENSOR, *(ScalarType(name) for name in SCALARS if name != "dtype")]
            alike: list[Type] = [TENSOR, ScalarType("int"), ScalarType("str")]
            held, same = st.sampled_from(plain).flatmap(inner), st.sampled_from(alike)
            return st.one_of(
                held,
                same.flatmap(lambda item: st.lists(inner(item), min_size=1, max_size=3)),
                same.flatmap(lambda item: st.dictionaries(_SCALARS["str"], inner(item), min_size=1, max_size=3)),
                st.lists(held, max_size=3).map(tuple),
            )
        case EnumType():
            return st.sampled_from(list(classes[kind]))  # type: ignore[call-overload]
        case OptionalType(item):
            return st.none() | inner(item)
        case UnionType(items):
            return st.one_of(*map(inner, items))
        case ListType(item):
            return st.lists(inner(item), max_size=3)
        case DictType(key, value):
            if key == TENSOR:  # which are different keys, however equal
                return st.lists(st.tuples(tensors, inner(value)), max_size=3).map(dict)
            return st.dictionaries(inner(key), inner(value), max_size=3)
        case TupleType(items):
            return st.tuples(*map(inner, items))
        case NamedTupleType():
            return st.builds(classes[kind], *map(inner, kind.items))
        case RRefType(item):
            return inner(item).map(rpc.RRef)
    return tensors


def calls(
    interface: type, method: str, arguments: Mapping[str, st.SearchStrategy[Any]] | None = None
) -> st.SearchStrategy[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Draws the arguments of calls: a tuple and a dict, for `stub.method(*args, **kwargs)`.

    Arguments with a default are left out at times, and keyword-only ones are in the dict.

    Args:
        interface: a class of annotated methods.
        method: the name of one of them.
        arguments: strategies for some of the arguments, by "method.argument"; the others have any value of their type.

    >>> from hypothesis import find
    >>> class Scaler:
    ...     def forward(self, x: float, *, by: int = 2) -> float: ...
    >>> args, kwargs = find(calls(Scaler, "forward"), lambda call: "by" in call[1])
    >>> kwargs["by"]
    0
    """
    compiled = compile_interface(interface)
    found = compiled.interface.method(method)
    if found is None:
        raise MismatchError(f"{compiled.interface.name} has no method {method}")
    known = {f"{one.name}.{argument.name}" for one in compiled.interface.methods for argument in one.arguments}
    for place in arguments or {}:
        if place not in known:
            raise MismatchError(
                f"{compiled.interface.name} has no argument {place}; there are {', '.join(sorted(known))}"
            )
    return draw_calls(found, compiled.contract.classes, dict(arguments or {}))


@st.composite
def draw_calls(
    draw: st.DrawFn, method: Method, classes: Classes, arguments: Mapping[str, st.SearchStrategy[Any]]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Draws as `calls`, for a method of the model."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for argument in method.arguments:
        if argument.has_default and draw(st.booleans()):
            continue
        place = f"{method.name}.{argument.name}"
        value = draw(arguments[place] if place in arguments else values(argument.type, classes=classes))
        # After one that was left out, all have to be named.
        if argument.keyword_only or len(args) < method.arguments.index(argument) or draw(st.booleans()):
            kwargs[argument.name] = value
        else:
            args.append(value)
    return tuple(args), kwargs


# -- signatures and interfaces

# Names that generated source uses itself, that shadow its globals, or that are odd in some lexer.
AWKWARD = (
    "device args kwargs module self self_ out out_0 torch result result_0 table handle find rpc Tensor List Optional "
    "Tuple Dict Future RRef key link worker timeout lease int float str super print inf nan type cls fork annotate "
    "x _ __a__ range RuntimeError ModuleInterface Slot Stub Connected self_0 _torchremote_link match Union Any "
    "isinstance prepared returned changes slot flags batch address protocol move_any value devices where pending "
    "message restored "
    "send_forward receive_0 defer_0 AtOnce Forked Hosted hosted run_forward forked_forward pack_Color Color Pair"
).split()
_identifiers = st.one_of(
    st.sampled_from(AWKWARD),
    st.text(string.ascii_letters, min_size=1, max_size=5).filter(lambda name: not keyword.iskeyword(name)),
)


def signatures(
    name: str = "forward", named: Iterable[type] = (), *, max_arguments: int = 3
) -> st.SearchStrategy[Method]:
    """Draws methods of the model: arguments of any type and name, some with defaults, some keyword-only.

    Args:
        name: the method's name.
        named: Enum and NamedTuple classes that may be among the types.
        max_arguments: the most arguments that a method has.

    >>> from hypothesis import find
    >>> str(find(signatures("score"), lambda method: not method.arguments))
    'score() -> Tensor'
    """
    return _signatures(name, tuple(named), max_arguments)


@st.composite
def _signatures(draw: st.DrawFn, name: str, named: tuple[type, ...], max_arguments: int) -> Method:
    found = []
    for argument in draw(st.lists(_identifiers, max_size=max_arguments, unique=True)):
        type = draw(types(named))
        defaults = _defaults(type) if draw(st.booleans()) else None
        default = REQUIRED if defaults is None else draw(defaults)
        found.append(Argument(argument, type, default, keyword_only=draw(st.integers(0, 3)) == 0))
    # Python's rules: those without a default first, unless they are keyword-only, and those last.
    found.sort(key=lambda argument: (argument.keyword_only, argument.has_default))
    return Method(name, tuple(found), draw(types(named)), detached=draw(st.integers(0, 3)) == 3)


def _defaults(kind: Type) -> st.SearchStrategy[Value] | None:
    """Draws values of the model that can be defaults of `kind`; None where there are none."""
    match kind:
        case ScalarType("device"):
            return st.sampled_from([DeviceValue("cpu"), DeviceValue("cuda:1")])
        case ScalarType("dtype"):
            return st.sampled_from([DtypeValue("float32"), DtypeValue("int8")])
        case ScalarType(name):
            return _SCALARS[name]
        case EnumType(name, members):
            return st.sampled_from([MemberValue(name, member) for member, _ in members])
        case OptionalType(item):
            inner = _defaults(item)
            return st.none() if inner is None else st.none() | inner
        case TupleType(items):
            return _all_defaults(items)
        case NamedTupleType(name):
            whole = _all_defaults(kind.items)
            return None if whole is None else whole.map(lambda items: NamedTupleValue(name, items))
    return None


def _all_defaults(types: tuple[Type, ...]) -> st.SearchStrategy[tuple[Value, ...]] | None:
    parts = [part for part in map(_defaults, types) if part is not None]
    return st.tuples(*parts) if len(parts) == len(types) else None


def interfaces(
    named: Iterable[type] = (), *, methods: Sequence[str] = ("forward", "encode", "print", "Tensor", "m", "List")
) -> st.SearchStrategy[Interface]:
    """Draws interfaces of the model, of one or two methods; `compile_interface` compiles one.

    Args:
        named: Enum and NamedTuple classes that may be among the types.
        methods: names to choose from.

    >>> from hypothesis import find
    >>> len(find(interfaces(), lambda interface: True).methods)
    1
    """
    return _interfaces(tuple(named), tuple(methods))


@st.composite
def _interfaces(draw: st.DrawFn, named: tuple[type, ...], methods: tuple[str, ...]) -> Interface:
    names = draw(st.lists(st.sampled_from(methods), min_size=1, max_size=2, unique=True))
    return Interface("__torch__.fuzz.Fuzzed", tuple(draw(signatures(name, named)) for name in sorted(names)))
