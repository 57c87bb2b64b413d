"""The reference has all that is public, and links in pages lead to files."""

import re

import pytest

import torchremote
from torchremote import errors, testing
from torchremote.tools.type_tables import tables

from .blocks import PAGES

REFERENCE = PAGES["api"].read_text()


@pytest.mark.parametrize("name", [name for name in torchremote.__all__ if not name.startswith("_")])
def test_every_public_name_has_an_entry(name):
    # Errors come with their module.
    assert re.search(rf":: torchremote\.{name}\b", REFERENCE) or hasattr(errors, name)


@pytest.mark.parametrize("module", ["errors", "testing", "jit.instantiator"])
def test_modules_have_an_entry_as_a_whole(module):
    assert f".. automodule:: torchremote.{module}\n" in REFERENCE


@pytest.mark.parametrize("name", [*vars(errors), *testing.__all__])
def test_what_is_listed_says_what_it_is(name):
    found = getattr(errors, name, None) or getattr(testing, name, None)
    if isinstance(found, type) and issubclass(found, torchremote.TorchRemoteError):
        assert found.__doc__


def test_the_page_of_types_shows_every_table():
    shown = re.findall(r"```\{type-table\} (.*)", PAGES["types"].read_text())
    printed = tables().split("\n\n")
    assert len(shown) == len(printed)
    assert all(table.startswith(f"| {head} |") for head, table in zip(shown, printed, strict=True))


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", PAGES[page].read_text()):
        if not target.startswith("http"):
            assert (PAGES[page].parent / target).exists(), target
