"""An interface, and the class of a program's result, as torch.export.load has to know it."""

import torch

from .test_built import Doubler as Doubler
from .test_built import Output

torch.export.register_dataclass(Output, serialized_type_name="tests.tools.test_built.Output")
