"""How the files of jit/runtime are read."""

import pytest

from torchremote.jit.runtime import FILES, definitions, names_in


@pytest.mark.parametrize("file", FILES)
def test_the_names_are_those_of_the_definitions(file):
    assert names_in(file) == [definition.name for definition in definitions(file)]
