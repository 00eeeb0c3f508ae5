"""How Sphinx builds the site: ``sphinx-build -W --keep-going -b html -c docs . build/docs``.

The sources are the whole project, so that Markdown, notebooks and code link to each other as they do in the
repository, and nothing is copied.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from minispike.version import __version__

project = "minispike"
author = copyright = "the minispike authors"
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "myst_nb",
    "docs.site.formulas",
    "docs.site.sources",
    "docs.site.docstrings",
    "docs.site.pictures",
    "docs.site.entrance",
]
root_doc = "docs/index"
include_patterns = ["docs/**.md", "tutorials/[0-9]*.ipynb", "README.md", "CONTRIBUTING.md", "benchmarks/**.md"]
exclude_patterns = [".*", "build", "dist", "runs", "minispike", "teachers", "tests", "**/__pycache__"]

# Lessons are executed by tutorials.build, and shown as they were stored.
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "attrs_inline", "colon_fence"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

default_role = "name"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]
napoleon_use_rtype = False
napoleon_attr_annotations = False
python_use_unqualified_type_names = True
maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "minispike"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_math_renderer = "drawn"
html_show_sourcelink = False
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"
html_theme_options = {"navigation_with_keys": False}
