"""Modules that TorchScript refuses for their numbers, lists and conditions, and what they are told."""

from .remedied import Step

CASES = {
    "an item": (
        """
class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.total = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.total += x.sum().item()
        return x + self.total
""",
        Step("`float(...)` around what `.item()` gives", {"x.sum().item()": "float(x.sum().item())"}),
    ),
    "an item as a count": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        n: int = x.argmax().item()
        for i in range(x.argmin().item()):
            n += 1
        return x + n
""",
        Step("`int(...)` around what `.item()` gives", {"x.argmax().item()": "int(x.argmax().item())"}),
        Step("`int(...)` around what `.item()` gives", {"x.argmin().item()": "int(x.argmin().item())"}),
    ),
    "a list of items": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + sum([row.sum().item() for row in x])
""",
        Step("`float(...)` or `int(...)` around what `.item()` gives", {"row.sum().item()": "float(row.sum().item())"}),
    ),
    "a list of two kinds": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + max([1.5, 2])
""",
        Step("as `2.0` for `2` beside `1.5`", {"1.5, 2": "1.5, 2.0"}),
    ),
    "a declared list of two kinds": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        ks: List[float] = [1.5, 2]
        return x + sum(ks)
""",
        Step("as `2.0` for `2` beside `1.5`", {"1.5, 2": "1.5, 2.0"}),
    ),
    "an int that becomes a float": (
        """
class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.n = 0

    def forward(self, x: Tensor) -> Tensor:
        self.n += 0.5
        return x + self.n
""",
        Step("give it one type: float from the beginning, as `0.0`", {"self.n = 0": "self.n = 0.0"}),
    ),
    "a float that becomes a tensor": (
        """
class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.n = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.n += x.sum()
        return x + self.n
""",
        Step(
            "give it one type: Tensor from the beginning, as `0.0` or `torch.tensor(0.0)`",
            {"self.n = 0.0": "self.n = torch.tensor(0.0)"},
        ),
    ),
    "a size for a float": (
        """
class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.n = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.n = x.size(0)
        return x + self.n
""",
        Step("or convert the other, as with `float(...)`", {"= x.size(0)": "= float(x.size(0))"}),
    ),
    "a choice of two kinds": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        n = 0 if x.dim() == 2 else 0.5
        return x + n
""",
        Step("as `0.0`", {"n = 0 if": "n = 0.0 if"}),
    ),
    "a sum that begins with a number": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        total = 0
        for row in x:
            total = total + row
        return total
""",
        Step("`total = torch.tensor(0.0)`", {"total = 0\n": "total = torch.tensor(0.0)\n"}),
    ),
    "the smaller of two tensors": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return min(x[0, 0], x[0, 1])
""",
        Step("`torch.minimum(a, b)`", {"min(x": "torch.minimum(x"}),
    ),
    "a number divided by a tensor": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 5 // x
""",
        Step("`torch.tensor(5) // x`", {"5 // x": "torch.tensor(5) // x"}),
    ),
    "an empty list in a dict": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        d: Dict[int, List[int]] = {}
        for k in range(3):
            if k not in d:
                d[k] = []
            d[k].append(k)
        return x + len(d[0])
""",
        Step("`torch.jit.annotate(List[int], [])`", {"d[k] = []": "d[k] = torch.jit.annotate(List[int], [])"}),
    ),
    "an empty dict in a list": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        d: List[Dict[int, int]] = []
        d.append({})
        d[0][1] = 2
        return x + d[0][1]
""",
        Step(
            "`torch.jit.annotate(Dict[int, int], {})`", {"append({})": "append(torch.jit.annotate(Dict[int, int], {}))"}
        ),
    ),
    "an attribute that becomes empty": (
        """
class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.ks = [1]

    def forward(self, x: Tensor) -> Tensor:
        self.ks = []
        return x + len(self.ks)
""",
        Step("`torch.jit.annotate(List[int], [])`", {"self.ks = []": "self.ks = torch.jit.annotate(List[int], [])"}),
    ),
    "a list that is empty first": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        items = []
        for k in range(3):
            items.append(k)
        return x + sum(items)
""",
        Step("`items: List[int] = []`", {"items = []": "items: List[int] = []"}),
    ),
    "lists that are empty first": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        items = [[] for k in range(3)]
        items[0].append(1)
        return x + len(items[0])
""",
        Step(
            "in an expression, `torch.jit.annotate(List[int], [])`",
            {"[[] for": "[torch.jit.annotate(List[int], []) for"},
        ),
    ),
    "a dict that is empty first": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        items = {}
        for k in range(3):
            items[k] = x
        return x + items[1]
""",
        Step("`items: Dict[int, Tensor] = {}`", {"items = {}": "items: Dict[int, Tensor] = {}"}),
    ),
    "a range backwards": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        for i in reversed(range(x.size(0))):
            x = 2 * x + i
        return x
""",
        Step("`range(n - 1, -1, -1)`", {"reversed(range(x.size(0)))": "range(x.size(0) - 1, -1, -1)"}),
    ),
    "a range as a list": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + sum(range(3)) if x.dim() in range(4) else x
""",
        Step(
            "`list(range(n))` elsewhere", {"sum(range(3))": "sum(list(range(3)))", "in range(4)": "in list(range(4))"}
        ),
    ),
    "a list backwards": (
        """
class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.ks = [1, 2]

    def forward(self, x: Tensor) -> Tensor:
        for k in reversed(self.ks):
            x = 2 * x + k
        return x
""",
        Step("`items[::-1]` for `reversed(items)`", {"reversed(self.ks)": "self.ks[::-1]"}),
    ),
    "a sum of tensors": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return sum([row * 2 for row in x])
""",
        Step(
            "`torch.stack(items).sum(0)`", {"sum([row * 2 for row in x])": "torch.stack([row * 2 for row in x]).sum(0)"}
        ),
    ),
    "the largest of tensors": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return max([row.sum() for row in x])
""",
        Step(
            "`torch.stack(items).amax(0)`",
            {"max([row.sum() for row in x])": "torch.stack([row.sum() for row in x]).amax(0)"},
        ),
    ),
    "a tensor as a list": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        for value in x[0].tolist():
            x = x * value
        return x
""",
        Step(
            "`values: List[float] = x.tolist()`",
            {"for value in x[0].tolist()": "values: List[float] = x[0].tolist()\n        for value in values"},
        ),
    ),
    "an argument without an annotation": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return self.times(x, 3)

    def times(self, x, n):
        return x * n
""",
        Step("`n: int`", {"x, n):": "x, n: int):"}),
    ),
    "a condition that may be None": (
        """
class Module(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.of(None) + self.of(0) + self.of(3)

    def of(self, k: Optional[int]) -> int:
        if not k:
            return 5
        return 1
""",
        Step("`k is not None and k` for it as a condition", {"if not k": "if not (k is not None and k)"}),
    ),
    "a text that may be None": (
        """
class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.k = 'abc'

    def forward(self, x: Tensor) -> Tensor:
        return x + self.of(None) + self.of('') + self.of('a')

    def of(self, k: Optional[str]) -> int:
        return len(k or self.k)
""",
        Step(
            "`k if k is not None and k else other` for `k or other`",
            {"k or self.k": "k if k is not None and k else self.k"},
        ),
    ),
    "an attribute that may be None": (
        """
class Module(nn.Module):
    k: Optional[int]
    def __init__(self):
        super().__init__()
        self.k = 3

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.k or 5)
""",
        Step(
            "`value = self.k`, and write `value is not None and value`",
            {
                "return x": "value = self.k\n        return x",
                "self.k or 5": "value if value is not None and value else 5",
            },
        ),
    ),
}
