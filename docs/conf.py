"""How `make docs` builds these pages. Nothing is fetched: every page is made of files of this repository."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent / "_sphinx")]

from torchremote import __version__  # noqa: E402

project = "torchremote"
author = "the authors of torchremote"
copyright = author
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    # of our own, in _sphinx/
    "command_line",
    "docstrings",
    "errors_table",
    "notes_in_source",
    "results",
    "types_of_interfaces",
]
exclude_patterns = ["_build"]
nitpicky = True
# Only public names have an entry here. Those of Python and torch are elsewhere, and builds are offline.
nitpick_ignore_regex = [("py:.*", r"(?!torchremote\.\w+$|torchremote\.errors\.).*")]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # a page that includes text from elsewhere may skip a level

default_role = "code"  # docstrings have single backticks
smartquotes_action = "D"  # dashes alone: notes and docstrings have quotes that mean Python
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90
napoleon_numpy_docstring = False
napoleon_use_param = False
napoleon_use_rtype = False

html_theme = "pydata_sphinx_theme"
html_title = "torchremote"
html_static_path = ["_static"]
templates_path = ["_templates"]
html_sidebars = {"**": ["pages.html"]}
html_css_files = ["torchremote.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": f"torchremote {__version__}"},
    "navbar_center": [],
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": [],
    "footer_end": [],
}
copybutton_prompt_text = re.escape(">>> ") + r"|\.\.\. "
copybutton_prompt_is_regexp = True
