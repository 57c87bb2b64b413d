"""Modules that TorchScript refuses for their attributes, globals, parts and functions, and what they are told."""

from .remedied import Step, in_body, in_init

CASES = {
    "a carried state": (
        """
class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 4)
        self.state: Optional[Tuple[Tensor, Tensor]] = None

    def forward(self, x: Tensor) -> Tensor:
        y, self.state = self.lstm(x, self.state)
        return y
""",
        Step("`state: Optional[Tuple[Tensor, Tensor]]`", in_body("state: Optional[Tuple[Tensor, Tensor]]")),
    ),
    "two attributes that are None": (
        """
class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.h = self.c = None
        self.n = 0

    def forward(self, x: Tensor) -> Tensor:
        self.h, self.n, self.c = x, 1, x + 1
        return x
""",
        Step("`h: Optional[Tensor]` and `c: Optional[Tensor]`", in_body("h: Optional[Tensor]", "c: Optional[Tensor]")),
    ),
    "a state that is asked": (
        """
class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer('before', None)

    def forward(self, x: Tensor) -> Tensor:
        if self.before is not None:
            x = x + self.before
        self.before = x
        return x
""",
        Step("`before: Optional[Tensor]`", in_body("before: Optional[Tensor]")),
        Step(
            "to a local name, `value = self.value`, and ask `value is not None` before you use `value`",
            {
                "if self.before": "value = self.before\n        if value",
                "x + self.before": "x + value",
            },
        ),
    ),
    "a state that is used": (
        """
class Module(nn.Module):
    before: Optional[Tensor]
    def __init__(self):
        super().__init__()
        self.before = None

    def forward(self, x: Tensor) -> Tensor:
        if self.before is None:
            self.before = x
        return self.before.sum() + x
""",
        Step(
            "`value = self.value`, and ask `value is not None`",
            {
                "return self.before": "value = self.before\n        assert value is not None\n        return value",
            },
        ),
    ),
    "a state that is forgotten": (
        """
class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.kept = torch.ones(1)

    def forward(self, x: Tensor) -> Tensor:
        self.kept = None
        return x
""",
        Step("`kept: Optional[Tensor]`", in_body("kept: Optional[Tensor]")),
    ),
    "a local name that is None first": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = None
        for row in x:
            if y is None:
                y = row
        return x if y is None else x + y
""",
        Step("`y: Optional[Tensor] = None`", {"y = None": "y: Optional[Tensor] = None"}),
    ),
    "a local name that is None later": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x + 1
        if x.dim() == 3:
            y = None
        return x if y is None else x + y
""",
        Step("`y: Optional[Tensor] = ...`", {"y = x + 1": "y: Optional[Tensor] = x + 1"}),
    ),
    "a value of the class": (
        """
class Module(nn.Module):
    LOW = -5
    def __init__(self):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(self.LOW, 2)
""",
        Step("in __init__, `self.LOW = self.LOW`", in_init("self.LOW = self.LOW")),
    ),
    "a tuple of the class": (
        """
class Module(nn.Module):
    SIZES = (2.0, 3)
    def __init__(self):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.SIZES[0] + self.SIZES[1]
""",
        Step("in __init__, `self.SIZES = self.SIZES`", in_init("self.SIZES = self.SIZES")),
    ),
    "a value of the class, by its name": (
        """
class Module(nn.Module):
    LOW = -5
    def __init__(self):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(Module.LOW, 2)
""",
        Step("`self.low = Module.LOW` in __init__", in_init("self.low = Module.LOW")),
        Step("", {"clamp(Module.LOW": "clamp(self.low"}),
    ),
    "a global": (
        """
class Module(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x + EPS
""",
        Step(
            "`self.eps = EPS` in __init__, and use `self.eps`", {**in_init("self.eps = EPS"), "x + EPS": "x + self.eps"}
        ),
    ),
    "a global in a function": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return plus(x)


def plus(x: Tensor) -> Tensor:
    return x + EPS
""",
        Step(
            "make it a default, `eps: float = EPS`",
            {"plus(x: Tensor)": "plus(x: Tensor, eps: float = EPS)", "x + EPS": "x + eps"},
        ),
    ),
    "a list that is global": (
        """
class Module(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        for name in NAMES:
            x = x + len(name)
        return x
""",
        Step("`self.names = NAMES` in __init__", {**in_init("self.names = NAMES"), "in NAMES": "in self.names"}),
    ),
    "a tensor that is global": (
        """
class Module(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x + TABLE.sum()
""",
        Step(
            "`self.register_buffer('table', TABLE)` in __init__",
            {**in_init("self.register_buffer('table', TABLE)"), "x + TABLE": "x + self.table"},
        ),
    ),
    "an object that is global": (
        """
class Module(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x + CONFIG.eps
""",
        Step(
            "`self.eps = CONFIG.eps` in __init__",
            {**in_init("self.eps = CONFIG.eps"), "x + CONFIG.eps": "x + self.eps"},
        ),
    ),
    "a dict of several types": (
        """
class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.config = {'eps': 0.5, 'name': 'a'}

    def forward(self, x: Tensor) -> Tensor:
        return x + self.config['eps']
""",
        Step(
            "what the methods use of 'config'",
            {"self.config = {'eps': 0.5, 'name': 'a'}": "self.eps = 0.5", "self.config['eps']": "self.eps"},
        ),
    ),
    "a part that is compiled": (
        """
class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        torch.nn.init.ones_(self.linear.weight)
        torch.nn.init.ones_(self.linear.bias)
        self.part = torch.compile(self.linear)

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x)
""",
        Step("host the part 'part' without torch.compile", {"torch.compile(self.linear)": "self.linear"}),
    ),
    "a function that is compiled": (
        """
class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = torch.compile(F.silu)

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x)
""",
        Step("host it without torch.compile", {"torch.compile(F.silu)": "F.silu"}),
    ),
    "a lambda": (
        """
class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = lambda x: x + 1

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x)

    @staticmethod
    def plus(x: Tensor) -> Tensor:
        return x + 1
""",
        Step("a function with `def` for the lambda", {"lambda x: x + 1": "self.plus"}),
    ),
    "a part without sizes": (
        """
class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = nn.LazyLinear(4)

    def forward(self, x: Tensor) -> Tensor:
        return x + 0 * self.part(x)
""",
        Step(
            "call the module once in the factory",
            {"return Module()": "module = Module(); module(torch.ones(2, 4)); return module"},
        ),
    ),
    "the smallest number": (
        """
class Module(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x.masked_fill(x > 0.5, torch.finfo(torch.float32).min)
""",
        Step(
            "`self.lowest = torch.finfo(torch.float32).min` in __init__",
            {
                **in_init("self.lowest = torch.finfo(torch.float32).min"),
                "x > 0.5, torch.finfo(torch.float32).min": "x > 0.5, self.lowest",
            },
        ),
    ),
    "a sample of a Categorical": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        logits = 10 * x
        return torch.distributions.Categorical(logits=logits).sample()
""",
        Step(
            "`torch.softmax(logits, -1).multinomial(1).squeeze(-1)`",
            {
                "torch.distributions.Categorical(logits=logits)": "torch.softmax(logits, -1).multinomial(1)",
                ".sample()": ".squeeze(-1)",
            },
        ),
    ),
    "a sample of a Normal": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        mean, std = x, x + 1
        return torch.distributions.Normal(mean, std).sample()
""",
        Step(
            "`mean + std * torch.randn_like(mean)`",
            {"torch.distributions.Normal(mean, std).sample()": "mean + std * torch.randn_like(mean)"},
        ),
    ),
}
