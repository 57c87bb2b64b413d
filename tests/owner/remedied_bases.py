"""Modules that TorchScript refuses because they call a method of a base, and what they are told."""

from .remedied import Step

HEAD = """
class Module(nn.Linear):
    def __init__(self):
        super().__init__(4, 4)

"""
FORWARD = """    def forward(self, x: Tensor) -> Tensor:
        return CALL * 2
"""
AS_A_PART = {
    "class Module(nn.Linear)": "class Module(nn.Module)",
    "super().__init__(4, 4)": "super().__init__()\n        self.base = nn.Linear(4, 4)",
}
OWN = """
class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


class Module(Base):
"""
COMPUTES = "(self, x: Tensor) -> Tensor:\n        return self.linear(x)"
NAMED = {
    f"    def forward{COMPUTES}": "    def forward(self, x: Tensor) -> Tensor:\n        return self.compute(x)\n\n"
    f"    def compute{COMPUTES}"
}


def of_a_base(call):
    """Writes a module that calls the method of its base."""
    return (HEAD + FORWARD).replace("CALL", call), Step(
        "hold a module of the base as a part, `self.base = nn.Linear(4, 4)` in __init__, and call `self.base(x)`",
        {**AS_A_PART, call: "self.base(x)"},
    )


def of_an_own_base(call):
    return (OWN + FORWARD).replace("CALL", call), Step(
        "have it compute that in a method of another name, and call this one", {**NAMED, call: "self.compute(x)"}
    )


CASES = {
    "super": of_a_base("super().forward(x)"),
    "super with its class": of_a_base("super(Module, self).forward(x)"),
    "the class of torch": of_a_base("nn.Linear.forward(self, x)"),
    "super of an own base": of_an_own_base("super().forward(x)"),
    "an own base": of_an_own_base("Base.forward(self, x)"),
    "another name of a method": (
        (HEAD + "    base = nn.Linear.forward\n\n" + FORWARD).replace("CALL", "self.base(x)"),
        Step("leave out the other name of forward()", {**AS_A_PART, "    base = nn.Linear.forward\n": ""}),
    ),
}
