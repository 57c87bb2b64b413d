import pytest

from torchremote.jit.parse import parse_interface, parse_type
from torchremote.jit.plan import (
    KEEP,
    MOVE,
    MethodPlan,
    Placement,
    WalkDict,
    WalkList,
    WalkOptional,
    WalkTuple,
    plan_method,
    plan_type,
)


@pytest.mark.parametrize(
    ("type", "plan"),
    [
        ("Tensor", MOVE),
        ("int", KEEP),
        ("Tuple[()]", KEEP),
        ("List[Dict[str, Tuple[int, Optional[float]]]]", KEEP),
        ("Optional[Tensor]", WalkOptional(MOVE)),
        ("Dict[str, List[Tensor]]", WalkDict(WalkList(MOVE))),
        ("Tuple[int, Tensor, Tuple[str, None]]", WalkTuple((KEEP, MOVE, KEEP))),
    ],
)
def test_the_walk_to_a_types_tensors(type, plan):
    assert plan_type(parse_type(type)) == plan


@pytest.mark.parametrize(
    ("placement", "plan"),
    [
        (Placement.HOST, MethodPlan((KEEP, KEEP), KEEP)),
        (Placement.MAPPED, MethodPlan((MOVE, KEEP), KEEP)),
        (Placement.STAGED, MethodPlan((MOVE, KEEP), MOVE)),
    ],
)
def test_a_placement_says_whether_the_walk_is_taken(placement, plan):
    (method,) = parse_interface("E", "forward(x: Tensor, n: int) -> Tensor").methods
    assert plan_method(method, placement) == plan
