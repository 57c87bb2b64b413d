"""Hypothesis strategies for the compiler's tests: types, values of a type, interfaces."""

from __future__ import annotations

import keyword
import string

from hypothesis import strategies as st

from torchremote.jit.model import REQUIRED, Argument, Interface, Method
from torchremote.jit.types import (
    DICT_KEYS,
    NONE,
    SCALARS,
    TENSOR,
    DictType,
    ListType,
    OptionalType,
    ScalarType,
    TupleType,
)

# Names that generated text uses itself, that shadow its globals, or that are odd in some lexer.
AWKWARD = (
    "device args kwargs module self self_ out out_0 torch result result_0 table handle find rpc Tensor List Optional "
    "Tuple Dict Future RRef key wire worker timeout lease int float str super print inf nan type cls fork annotate "
    "x _ __a__ range RuntimeError Hosted Slot Stub Connected self_0 _torchremote_wire match"
).split()

scalars = st.sampled_from(SCALARS).map(ScalarType)


def _containers(inner):
    return st.one_of(
        inner.filter(lambda item: item != NONE and not isinstance(item, OptionalType)).map(OptionalType),
        inner.map(ListType),
        st.builds(DictType, st.sampled_from(DICT_KEYS).map(ScalarType), inner),
        st.lists(inner, max_size=3).map(tuple).map(TupleType),
    )


types = st.recursive(st.one_of(st.just(TENSOR), scalars), _containers, max_leaves=6)
# Those whose values can be defaults.
literal_types = st.recursive(
    scalars,
    lambda inner: st.one_of(
        inner.filter(lambda item: item != NONE and not isinstance(item, OptionalType)).map(OptionalType),
        st.lists(inner, max_size=3).map(tuple).map(TupleType),
    ),
    max_leaves=4,
)
identifiers = st.one_of(
    st.sampled_from(AWKWARD),
    st.text(string.ascii_letters, min_size=1, max_size=5).filter(lambda name: not keyword.iskeyword(name)),
)


def values(type, tensors):
    """Python values of `type`; `tensors` is the strategy for the tensors in it."""
    match type:
        case OptionalType(item):
            return st.none() | values(item, tensors)
        case ListType(item):
            return st.lists(values(item, tensors), max_size=3)
        case DictType(key, value):
            return st.dictionaries(values(key, tensors), values(value, tensors), max_size=3)
        case TupleType(items):
            return st.tuples(*(values(item, tensors) for item in items))
        case ScalarType(name):
            return {
                "int": st.integers(-(2**63), 2**63 - 1),
                "float": st.floats(allow_nan=False),
                "bool": st.booleans(),
                "str": st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
                "None": st.none(),
            }[name]
    return tensors


@st.composite
def arguments(draw, name, defaults):
    if defaults and draw(st.booleans()):
        type = draw(literal_types)
        return Argument(name, type, draw(values(type, st.nothing())))
    return Argument(name, draw(types), REQUIRED)


@st.composite
def interfaces(draw, defaults=False):
    methods = []
    names = draw(
        st.lists(
            st.sampled_from(["forward", "encode", "print", "Tensor", "m", "List"]), min_size=1, max_size=2, unique=True
        )
    )
    for name in sorted(names):
        found = [
            draw(arguments(argument, defaults)) for argument in draw(st.lists(identifiers, max_size=3, unique=True))
        ]
        found.sort(key=lambda argument: argument.has_default)  # Python: those without come first
        methods.append(Method(name, tuple(found), draw(types)))
    return Interface("__torch__.fuzz.Fuzzed", tuple(methods))
