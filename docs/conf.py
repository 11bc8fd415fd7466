"""The documentation site: ``make docs`` builds it into ``docs/_build``, with no warning and without the network."""

import os
import sys
import warnings
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

import linegraph  # noqa: E402

warnings.filterwarnings("ignore", category=FutureWarning)  # of packages that the gallery imports
os.environ.setdefault("OMP_NUM_THREADS", "1")

project = "linegraph"
author = "The linegraph developers"
copyright = "the linegraph developers"
release = version = linegraph.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx-mathjax-offline",  # MathJax and its fonts, copied into the site
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "docstrings",
    "pages",
]
exclude_patterns = ["_build", "gallery", "figures/*.ipynb", "**.ipynb_checkpoints"]

# Prose. Headings get anchors, for links such as selection.md#halving.
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the outputs that are stored with the notebooks, which the tests run, are shown

# The API, from the docstrings.
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # "Args" says what may be passed
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

# The figures.
sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "figures",
    "filename_pattern": "",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "capture_repr": (),
    "min_reported_time": 1e9,
    "reset_modules": ("matplotlib",),
    "write_computation_times": False,
    "abort_on_example_error": True,
}

html_theme = "furo"
html_title = f"linegraph {release}"
html_static_path = ["_static"]
html_css_files = ["linegraph.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
