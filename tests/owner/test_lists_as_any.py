"""Code at which torch's compiler ends the process is found before it is compiled, wherever it is; other code is not."""

import typing
from typing import Any, Dict, List, Optional

import pytest
import torch
import torch.distributed.rpc as rpc
from torch import nn

import torchremote as tr
from torchremote.errors import CreationError

from . import test_lists_as_any as this_module  # for a function under a dotted name

Unknown = Optional[Any]


class Gives:
    def forward(self, x: int) -> Any: ...


class Literal(nn.Module):
    def forward(self, x: int) -> Any:
        return [x, 2]


class Comprehension(nn.Module):
    def forward(self, x: int) -> typing.Any:
        return [k + 1 for k in range(x)]


class DictComprehension(nn.Module):
    def forward(self, x: int) -> Any:
        return {k: k for k in range(x)}


class Conditional(nn.Module):
    def forward(self, x: int) -> "Any":
        return 1 if x > 0 else (2 if x < 0 else [])


class InABranch(nn.Module):
    def forward(self, x: int) -> Unknown:
        if x > 0:
            with torch.no_grad():
                while x > 0:
                    return [x]
        return x


class WithABar(nn.Module):
    def forward(self, x: int) -> Any | None:
        return [x]


class Annotated(nn.Module):
    def forward(self, x: int) -> Any:
        y: Optional[Any] = [x]
        return y


class WithAnnotate(nn.Module):
    def forward(self, x: int) -> Any:
        return torch.jit.annotate(Any, [x])


class WithQuotesInAnnotate(nn.Module):
    def forward(self, x: int) -> Any:
        return torch.jit.annotate("Optional['Any']", [x])


class Commented(nn.Module):
    def forward(self, x):
        # type: (int) -> Any
        return [x]


class Helper(nn.Module):
    def forward(self, x: int) -> Any:
        return self.first(x)

    def first(self, x: int) -> Any:
        return self.second(x)

    def second(self, x: int) -> Any:
        return [x]


class Static(nn.Module):
    def forward(self, x: int) -> Any:
        return self.second(x)

    @staticmethod
    def second(x: int) -> Any:
        return [x]


class Part(nn.Module):
    def __init__(self, part=None):
        super().__init__()
        self.part = Literal() if part is None else part

    def forward(self, x: int) -> Any:
        return self.part(x)


class Other(nn.Module):
    """A method that is right, and one that is not."""

    def forward(self, x: int) -> Any:
        return x

    def other(self, x: int) -> Any:
        return [x]


class OtherOfAPart(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = Part(Other())

    def forward(self, x: int) -> Any:
        return self.part.part.other(x)


class OtherOfAList(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([Other(), Other()])

    def forward(self, x: int) -> int:
        for _, part in enumerate(self.parts):
            part.other(x)
        return x


def free(x: int) -> Any:
    return [x]


def calls_free(x: int) -> Any:
    return free(x)


class Free(nn.Module):
    def forward(self, x: int) -> Any:
        return calls_free(x)


class Dotted(nn.Module):
    def forward(self, x: int) -> Any:
        return this_module.free(x)


class Attribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.function = free

    def forward(self, x: int) -> Any:
        return x


class Property(nn.Module):
    @property
    def odd(self) -> Any:
        return [1]

    def forward(self, x: int) -> Any:
        return x


class Exported(Other):
    @torch.jit.export
    def other(self, x: int) -> Any:
        return [x]


class Pen:
    def __init__(self, x: int):
        self.x: Any = [x]


class Scripted(nn.Module):
    def forward(self, x: int) -> Any:
        return Pen(x).x


def local_function(x: int) -> Any:
    return [x]


def closure():
    inside = local_function

    class Closure(nn.Module):
        def forward(self, x: int) -> Any:
            return inside(x)

    return Closure()


FAULTY = [
    Literal,
    Comprehension,
    DictComprehension,
    Conditional,
    InABranch,
    WithABar,
    Annotated,
    WithAnnotate,
    WithQuotesInAnnotate,
    Commented,
    Helper,
    Static,
    Part,
    OtherOfAPart,
    OtherOfAList,
    Free,
    Dotted,
    Attribute,
    Property,
    Exported,
    Scripted,
    closure,
]


@pytest.mark.parametrize("make", FAULTY)
def test_it_is_refused_with_method_line_and_remedy(owner, make):
    for _ in range(2):
        with pytest.raises(
            CreationError, match=r"^Gives on owner: \w+(\.\w+)? \(.*test_lists_as_any\.py:\d+\): a "
        ) as found:
            tr.create(owner, Gives, make)
        assert "torch's compiler ends the process" in str(found.value)
        assert ": List[int] = [...]`" in str(found.value) or ": Dict[str, int] = {...}`" in str(found.value)
    assert rpc.rpc_sync(owner, int, ("1",)) == 1


def test_the_line_is_the_literals_own():
    with pytest.raises(CreationError, match=r"^Helper\.second \((.*):(\d+)\): a list literal") as found:
        tr.serve(Helper(), Gives, "never")
    _, line = str(found.value).partition("test_lists_as_any.py:")[::2]
    with open(__file__) as file:
        text = file.read().splitlines()[int(line.partition(")")[0]) - 1]
    assert text == "        return [x]"


# -- what is right


class Typed(nn.Module):
    def forward(self, x: int) -> Any:
        items: List[int] = [x, 2]
        return items


class Dicts(nn.Module):
    def forward(self, x: int) -> Any:
        found: Any = {"a": [x]}
        return found


class Tuples(nn.Module):
    def forward(self, x: int) -> Any:
        return [x], x


class Nested(nn.Module):
    def forward(self, x: int) -> Any:
        y: Dict[str, Any] = {"a": [x]}
        return y


class Guarded(nn.Module):
    def forward(self, x: int) -> Any:
        if not torch.jit.is_scripting():
            return [x]
        return self.ignored(x)

    @torch.jit.ignore
    def ignored(self, x: int) -> int:
        return len([x])

    @torch.jit.unused
    def unused(self, x: int) -> Any:
        return [x]

    def only_in_python(self, x: int) -> Any:
        return [x]


class CallsPython(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = Guarded()

    def forward(self, x: int) -> Any:
        if torch.jit.is_scripting():
            return self.part(x)
        return [x]


class FromScripted(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = torch.jit.script(Typed())

    def forward(self, x: int) -> Any:
        return self.part(x)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (Typed, [3, 2]),
        (Dicts, {"a": [3]}),
        (Tuples, ([3], 3)),
        (Nested, {"a": [3]}),
        (Guarded, 1),
        (CallsPython, 1),
        (FromScripted, [3, 2]),
        (Other, 3),
    ],
)
def test_what_is_right_is_hosted(owner, make, expected):
    assert tr.create(owner, Gives, make)(3) == expected
