"""Modules that TorchScript refuses for their statements, expressions and loops over parts, and what they are told."""

from .remedied import Step

CASES = {
    "an assignment in a condition": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if (k := x.dim() + 1) > 2:
            return x + k
        return x
""",
        Step(
            "assign it in a line of its own, before", {"if (k := x.dim() + 1) > 2": "k = x.dim() + 1\n        if k > 2"}
        ),
    ),
    "a condition in a comprehension": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        ks = [k for k in range(5) if k > 2]
        return x + sum(ks)
""",
        Step(
            "write a loop, `for k in items:`, with `if` and `found.append(k)`",
            {
                "ks = [k for k in range(5) if k > 2]": (
                    "ks: List[int] = []\n"
                    "        for k in range(5):\n"
                    "            if k > 2:\n"
                    "                ks.append(k)"
                )
            },
        ),
    ),
    "two loops in a comprehension": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        ks = [k * i for k in range(3) for i in range(2)]
        return x + sum(ks)
""",
        Step(
            "write loops in each other",
            {
                "ks = [k * i for k in range(3) for i in range(2)]": (
                    "ks: List[int] = []\n"
                    "        for k in range(3):\n"
                    "            for i in range(2):\n"
                    "                ks.append(k * i)"
                )
            },
        ),
    ),
    "a function in a method": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        def plus(y: Tensor) -> Tensor:
            return y + 1

        return plus(x)
""",
        Step(
            "at the top level of the file, with what it uses as arguments",
            {
                "        def plus(y: Tensor) -> Tensor:\n            return y + 1\n\n": "",
                "class Module": "def plus(y: Tensor) -> Tensor:\n    return y + 1\n\n\nclass Module",
            },
        ),
    ),
    "a lambda in a method": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        plus = lambda y: y + 1
        return plus(x)
""",
        Step(
            "a function with `def`, at the top level of the file",
            {
                "        plus = lambda y: y + 1\n": "",
                "class Module": "def plus(y: Tensor) -> Tensor:\n    return y + 1\n\n\nclass Module",
            },
        ),
    ),
    "a match": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        match x.dim():
            case 2:
                y = x + 1
            case _:
                y = x
        return y
""",
        Step(
            "write `if`, `elif` and `else`",
            {
                (
                    "match x.dim():\n"
                    "            case 2:\n"
                    "                y = x + 1\n"
                    "            case _:\n"
                    "                y = x"
                ): ("if x.dim() == 2:\n            y = x + 1\n        else:\n            y = x")
            },
        ),
    ),
    "a try": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        known = {'a': 1}
        try:
            k = known['b']
        except KeyError:
            k = 5
        return x + k
""",
        Step(
            "as in `if key in mapping:`",
            {
                ("try:\n            k = known['b']\n        except KeyError:\n            k = 5"): (
                    "if 'b' in known:\n            k = known['b']\n        else:\n            k = 5"
                )
            },
        ),
    ),
    "a set": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        seen = {1, 2}
        return x + len(seen)
""",
        Step("`{k: True}`", {"{1, 2}": "{1: True, 2: True}"}),
    ),
    "a set of a comprehension": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        seen = {k // 2 for k in range(5)}
        return x + len(seen)
""",
        Step("`{k: True}`", {"{k // 2 for": "{k // 2: True for"}),
    ),
    "an import": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        import math
        return x + math.pi
""",
        Step("at the top of the file", {"        import math\n": "", "class Module": "import math\n\n\nclass Module"}),
    ),
    "a list in a list": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        ks = [1, 2]
        more = [*ks, 3]
        return x + sum(more)
""",
        Step("`items + [k]` for `[*items, k]`", {"[*ks, 3]": "ks + [3]"}),
    ),
    "the rest of a list": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        first, *rest = [1, 2, 3]
        return x + first * len(rest)
""",
        Step(
            "`first, rest = items[0], items[1:]`",
            {"first, *rest = [1, 2, 3]": "items = [1, 2, 3]\n        first, rest = items[0], items[1:]"},
        ),
    ),
    "arguments in a list": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(*[1, 0])
""",
        Step("the arguments of a call one by one", {"*[1, 0]": "1, 0"}),
    ),
    "arguments in a dict": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(**{'dim': 0})
""",
        Step("by its name, as in `dim=0`", {"**{'dim': 0}": "dim=0"}),
    ),
    "an annotation alone": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        k: int
        k = 3
        return x + k
""",
        Step("assign a value where it is annotated", {"k: int\n        k = 3": "k: int = 3"}),
    ),
    "a name in an f-string": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        text = f'{x.dim()=}'
        return x + len(text)
""",
        Step("`n={n}` for `{n=}`", {"{x.dim()=}": "x.dim()={x.dim()}"}),
    ),
    "digits in an f-string": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        text = f'{x.dim():d}'
        return x + len(text)
""",
        Step("write `{n}` alone", {"{x.dim():d}": "{x.dim()}"}),
    ),
    "a print with an end": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        print(x.dim(), end='')
        return x
""",
        Step("write the values alone", {", end=''": ""}),
    ),
    "some parts of a list": (
        """
class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
        self.whole = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
        self.factors = [1, 2, 3]

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts[1:3]:
            x = part(x)
        return x
""",
        Step(
            "`for i, part in enumerate(self.parts):` with `if i >= 1 and i < 3:`",
            {
                "for part in self.parts[1:3]:\n            x": (
                    "for i, part in enumerate(self.parts):\n            if i >= 1 and i < 3:\n                x"
                )
            },
        ),
    ),
    "some parts of a Sequential": (
        """
class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
        self.whole = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
        self.factors = [1, 2, 3]

    def forward(self, x: Tensor) -> Tensor:
        return self.whole[1:3](x)
""",
        Step(
            "`for i, part in enumerate(self.parts):` with `if i >= 1 and i < 3:`",
            {
                "return self.whole[1:3](x)": (
                    "for i, part in enumerate(self.whole):\n"
                    "            if i >= 1 and i < 3:\n"
                    "                x = part(x)\n"
                    "        return x"
                )
            },
        ),
    ),
    "parts beside values": (
        """
class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
        self.whole = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
        self.factors = [1, 2, 3]

    def forward(self, x: Tensor) -> Tensor:
        for part, k in zip(self.parts, self.factors):
            x = part(x) * k
        return x
""",
        Step(
            "`for i, part in enumerate(self.parts):`, and `values[i]`",
            {
                "for part, k in zip(self.parts, self.factors)": "for i, part in enumerate(self.parts)",
                "* k": "* self.factors[i]",
            },
        ),
    ),
    "a part by its number": (
        """
class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
        self.whole = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
        self.factors = [1, 2, 3]

    def forward(self, x: Tensor) -> Tensor:
        return self.parts[x.dim()](x)
""",
        Step(
            "`for i, part in enumerate(self.parts):`, with `if i == n:`",
            {
                "return self.parts[x.dim()](x)": (
                    "for i, part in enumerate(self.parts):\n"
                    "            if i == x.dim():\n"
                    "                x = part(x)\n"
                    "        return x"
                )
            },
        ),
    ),
    "a question for a dict": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        known = {'a': 1}
        return x + 1 if isinstance(known, dict) else x
""",
        Step("leave the question out where the type says it", {" if isinstance(known, dict) else x": ""}),
    ),
    "a question for None": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        k: Optional[int] = x.dim()
        return x if isinstance(k, type(None)) else x + 1
""",
        Step("write `value is None`", {"isinstance(k, type(None))": "k is None"}),
    ),
    "a complement": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + ~x.dim()
""",
        Step("write `-n - 1`", {"~x.dim()": "(-x.dim() - 1)"}),
    ),
    "a number of digits": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + round(float(x.sum()), 1)
""",
        Step("`round(x * 10.0) / 10.0`", {"round(float(x.sum()), 1)": "round(float(x.sum()) * 10.0) / 10.0"}),
    ),
    "a text many times": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        text = 'ab' * x.dim()
        return x + len(text)
""",
        Step("`''.join([text for i in range(n)])`", {"'ab' * x.dim()": "''.join(['ab' for i in range(x.dim())])"}),
    ),
    "the larger of two texts": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        text = max('ab', str(x.dim()))
        return x + len(text)
""",
        Step(
            "`a if a > b else b` for `max(a, b)`",
            {"max('ab', str(x.dim()))": "'ab' if 'ab' > str(x.dim()) else str(x.dim())"},
        ),
    ),
}
