"""Sphinx's settings: Markdown by MyST, the API by autodoc, the theme furo. Nothing comes over the network."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the code of this checkout, whatever is installed

project = "Inkling"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["benchmarks/results", "generate", "static"]
default_role = "code"  # single backticks in docstrings are code
smartquotes = False  # two dashes are a flag

myst_heading_anchors = 3
suppress_warnings = ["config.cache"]

autodoc_member_order = "bysource"
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "Inkling"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["site.css"]
