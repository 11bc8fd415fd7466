import subprocess
import sys

import torch

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


def test_results_show_their_figures_and_not_their_arrays():
    ring = lg.GraphCoupling(torch.tensor([[0, 1, 2], [1, 2, 0]]))
    shown = {
        "SpectralDensity(nodes=16 from -0.5 to 1, probes=8)": lg.spectral_density(ring),
        "StrengthDistribution(direction='in', layer=None, nodes=3, values=1, from 1 to 1)": lg.strength_distribution(
            ring, direction="in"
        ),
        "Communities(communities=1, nodes=3, modularity=0)": lg.communities(ring),
    }
    assert [repr(found) for found in shown.values()] == list(shown)
