"""Builds the documentation site: `make docs`. Nothing is fetched, no notebook is run, and every warning is an error."""

from __future__ import annotations

import sys
from pathlib import Path

import nbcompose

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_ext"))


def lay_out_notebooks() -> None:
    """Copy the notebooks to where Sphinx, which reads one folder, finds them; git ignores the copies."""
    wanted = {path.name: path.read_bytes() for path in (DOCS.parent / "notebooks").glob("*.ipynb")}
    folder = DOCS / "notebooks"
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.ipynb"):
        if path.name not in wanted:
            path.unlink()
    for name, content in wanted.items():
        if not (folder / name).exists() or (folder / name).read_bytes() != content:
            (folder / name).write_bytes(content)


lay_out_notebooks()

project = "nbcompose"
author = "The nbcompose authors"
copyright = author
version = release = nbcompose.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "docstrings",
    "generated",
    "repository_links",
]
exclude_patterns = ["_ext"]
nitpicky = True
# Builtins resolve by themselves. These do not, because other projects' inventories would have to be fetched, or because
# they stand in signatures only and have no page.
nitpick_ignore_regex = [
    ("py:.*", r"(collections\.abc|pathlib|os|typing|types|asyncio)\..*"),  # Python's own
    ("py:.*", r"(Path|PathLike|Callable|Iterable|Sequence|Any|Self|datetime|timedelta)"),  # as written
    ("py:.*", r"(pandas|IPython)\..*"),
    ("py:.*", r"nbcompose\._.*"),  # private
    ("py:.*", r"[A-Z]|[A-Z]\w*_co"),  # type variables
    ("py:.*", r"(Mistake|Run|Watched|ServiceSpec|ApiSpec|ModelProgress|Trace|Described)"),  # results
]

# Lines that begin with ! are no Python for Pygments, which then colours what it can.
suppress_warnings = ["misc.highlighting_failure"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the outputs are those that are saved; `make notebooks` compares them with a run
nb_mime_priority_overrides = [("html", "text/html", 0), ("html", "text/plain", 1)]

autodoc_preserve_defaults = True
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
python_maximum_signature_line_length = 88

copybutton_exclude = ".linenos, .gp, .go"

html_theme = "pydata_sphinx_theme"
html_title = "nbcompose"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_context = {"default_mode": "auto"}
html_theme_options = {
    "logo": {"text": "nbcompose"},
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "icon_links": [{"name": "GitHub", "url": "https://github.com/nbcompose/nbcompose", "icon": "fa-brands fa-github"}],
}
html_sidebars = {"changelog": [], "troubleshooting": []}
