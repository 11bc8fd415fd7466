import subprocess
import sys

import linegraph as lg

SLOW = [
    "torch_geometric",
    "igraph",
    "networkx",
    "matplotlib.pyplot",
    "scipy.stats",
    "sklearn",
    "transformers",
    "torchvision",
]
"""What takes long to import, or need not be there, and is imported where it is used."""


def test_importing_takes_little_more_than_torch():
    found = f"import sys, linegraph; print([name for name in {SLOW} if name in sys.modules])"
    output = subprocess.run([sys.executable, "-c", found], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


def test_every_public_name_resolves():
    assert all(hasattr(lg, name) for name in lg.__all__)
    assert sorted(lg.__all__) == lg.__all__


def test_public_names_are_documented():
    assert all(getattr(lg, name).__doc__ for name in lg.__all__)
