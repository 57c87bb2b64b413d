import pytest

from torchremote.jit.lower.plan import (
    KEEP,
    MOVE,
    MOVE_ANY,
    TRANSLATE_ENUM,
    WalkDict,
    WalkList,
    WalkOptional,
    WalkTuple,
    WalkUnion,
    plan_packing,
    plan_result,
    plan_tensors,
    plan_type,
    wire_type,
)
from torchremote.jit.read.types import TENSOR, EnumType, NamedTupleType

from ...zoo import interface_of, type_of

COLOR = EnumType("m.Color", (("RED", 1), ("GREEN", 2)))
PAIR = NamedTupleType("m.Pair", (("a", TENSOR), ("c", COLOR)))


@pytest.mark.parametrize(
    ("type", "plan"),
    [
        ("Tensor", MOVE),
        ("int", KEEP),
        ("Tuple[()]", KEEP),
        ("List[Dict[str, Tuple[int, Optional[float]]]]", KEEP),
        ("Optional[Tensor]", WalkOptional(MOVE)),
        ("Dict[str, List[Tensor]]", WalkDict(KEEP, WalkList(MOVE))),
        ("Tuple[int, Tensor, Tuple[str, None]]", WalkTuple((KEEP, MOVE, KEEP))),
        ("Dict[Tensor, int]", WalkDict(MOVE, KEEP)),
        ("List[Any]", WalkList(MOVE_ANY)),
        ("RRef[Tensor]", KEEP),
    ],
)
def test_the_walk_to_a_types_tensors(type, plan):
    assert plan_type(type_of(type), tensors=True, translates=False) == plan


@pytest.mark.parametrize(
    ("type", "translation", "crosses_as"),
    [
        ("m.Color", TRANSLATE_ENUM, "int"),
        ("dtype", KEEP, "int"),
        ("m.Pair", WalkTuple((KEEP, TRANSLATE_ENUM)), "Tuple[Tensor, int]"),
        ("Dict[dtype, m.Color]", WalkDict(KEEP, TRANSLATE_ENUM), "Dict[int, int]"),
        ("Union[Tensor, m.Color]", WalkUnion((KEEP, TRANSLATE_ENUM)), "Tuple[Optional[Tensor], Optional[int]]"),
        ("Optional[List[m.Pair]]", WalkOptional(WalkList(WalkTuple((KEEP, TRANSLATE_ENUM)))), None),
        ("Any", KEEP, "Any"),
        ("Tuple[complex, device]", KEEP, "Tuple[complex, device]"),
    ],
)
def test_what_crosses_as_something_else(type, translation, crosses_as):
    parsed = type_of(type, COLOR, PAIR)
    assert plan_type(parsed, tensors=False, translates=True) == translation
    assert str(wire_type(parsed)) == crosses_as or crosses_as is None


def test_who_walks_to_what():
    (method,) = interface_of(f"{COLOR.definition}\n{PAIR.definition}\nforward(x: m.Pair, n: int) -> Tensor").methods
    assert plan_tensors(method) == (WalkTuple((MOVE, KEEP)), KEEP)  # of packed arguments
    assert plan_result(method) == MOVE
    assert [plan_packing(kind) for kind in method.types] == [WalkTuple((KEEP, TRANSLATE_ENUM)), KEEP, KEEP]
