import torch

import linegraph as lg


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
