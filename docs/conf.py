"""The documentation site, made by Sphinx of the Markdown pages where they lie: `make docs`.

Nothing is fetched, neither while it is built nor when it is read (tests/test_site.py).
"""

import re
from typing import Any

import tiergym

project = "tiergym"
author = project_copyright = "The tiergym maintainers"
version = release = tiergym.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

# The source folder is the checkout: README, changelog and the pages of docs/ keep the links that they have there.
root_doc = "docs/index"
include_patterns = [
    "*.md",
    "docs/**.md",
    "docs/api.rst",
    "experiments/kernel-lab/README.md",
    "agents/weights/*/card.md",
]
exclude_patterns = [".*", "build", "dist", "runs", "recordings"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

default_role = "literal"  # docstrings write `names` as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 100

html_theme = "furo"
html_title = f"tiergym {version}"
html_extra_path = ["site"]  # the root of the site leads to its first page
html_copy_source = False
html_show_sphinx = False
html_use_index = html_domain_indices = False


def as_rst(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Gymnasium's way of headings in docstrings, which is Markdown's."""
    lines[:] = re.sub(r"(?m)^### (.*)$", r".. rubric:: \1\n", "\n".join(lines)).split("\n")


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", as_rst)
