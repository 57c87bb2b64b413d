"""Imports run one way, and the pure passes need no torch."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "torchremote"
# Each may import those before it.
ORDER = (
    "_version supported errors "
    "jit.literals jit.types jit.model jit.parse jit.names jit.plan jit.spell jit.ir jit.convert "
    "jit.table jit.tensors jit.anything "
    "jit.lower.scope jit.lower.common jit.lower.types jit.lower.wire jit.lower.connected jit.lower.joined "
    "jit.lower.stub jit.lower.owner jit.lower.referring jit.lower jit.emit "
    "jit._torch jit.annotations jit.interface jit.classes jit.script jit.cache jit.foundation jit "
    "values fitting workers fit failures "
    "sweeper leases saving shelves calls batches stub sending host control create creations archives "
    "upkeep at_owner non_scriptable jit.instantiator jit.templates remote_module inspection options "
    "testing.strategies testing.check testing reference doctor cli"
).split()
PURE = ORDER[ORDER.index("jit.literals") : ORDER.index("jit._torch")]


def imports(module):
    """The modules that `module` imports anywhere: ours by their name in the package, others by their first name."""
    path = PACKAGE.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] + (node.module.split(".") if node.module else [])
            for alias in node.names:
                longer = ".".join([*base, alias.name])
                yield longer if longer in ORDER else ".".join(base)


@pytest.mark.parametrize("module", ORDER)
def test_imports_run_one_way(module):
    later = set(ORDER[ORDER.index(module) :])
    assert set(imports(module)) & later == set()


@pytest.mark.parametrize("module", PURE)
def test_pure_passes_need_no_torch(module):
    assert "torch" not in set(imports(module))


def test_every_file_has_its_place():
    found = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        for path in PACKAGE.rglob("*.py")
    }
    assert found - {"__init__", "__main__", "demo"} == set(ORDER)
