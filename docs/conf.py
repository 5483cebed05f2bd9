"""Sphinx configuration; build with `python -m sphinx -W -b html docs docs/_build/html`."""

import ce_parallel

project = "ce_parallel"
author = "The ce_parallel developers"
copyright = "The ce_parallel developers"
release = version = ce_parallel.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

# The API is one page: a table of names (autosummary), then each name in full (autodoc).
autosummary_generate = False
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "none"  # the docstrings say more: shapes, units, defaults
numpydoc_show_class_members = False  # autodoc lists them already

html_theme = "furo"
html_title = f"ce_parallel {release}"


def skip_generated_methods(app, what, name, obj, skip, options):
    """Leave out `set_fit_request` and its kin, which scikit-learn adds to every estimator."""
    if name.startswith("set_") and name.endswith("_request"):
        return True
    return None


def setup(app):
    app.connect("autodoc-skip-member", skip_generated_methods)
