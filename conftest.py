"""What tests and examples share.

Keeps the folder ``datasets`` of this repository from being taken for the package ``datasets`` of Hugging Face. Figures
have no window, and are closed after each test.
"""

import sys
from importlib.util import find_spec

import matplotlib
import pytest

matplotlib.use("agg")  # not by MPLBACKEND, which notebooks would inherit

found = find_spec("datasets")
if found is not None and found.origin is None:  # a folder without __init__.py, which Python imports as a package
    sys.modules["datasets"] = None  # as if it were not there

# Modules of the package whose extra is not installed are not searched for examples.
collect_ignore = [f"linegraph/{name}.py" for name in ("lightning", "transformers") if find_spec(name) is None]


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
