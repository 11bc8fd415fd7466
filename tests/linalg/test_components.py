"""Which rows and columns of P have entries in common."""

import pytest
import torch
from hypothesis import given, settings
from scipy.sparse.csgraph import connected_components
from torch import nn

import linegraph as lg
from tests.cases import CASES
from tests.metrics.graphs import Implicit, graphs, random_graph


def partition(numbers):
    """Groups of equal numbers, whatever the numbers."""
    groups = {}
    for place, number in enumerate(numbers.tolist()):
        groups.setdefault(number, set()).add(place)
    return {frozenset(group) for group in groups.values()}


def entries_stay_within(P, G):
    """Every entry of P lies in a row and a column of the same component."""
    rows, columns = P.row_components(), P.column_components()
    sources, targets = G.edge_index
    return torch.equal(rows[targets], columns[sources])


@settings(max_examples=50)
@given(graphs())
def test_of_a_graph(G):
    pattern = G.to_dense() != 0
    assert entries_stay_within(G, G)
    # Columns are in one component if steps between columns that share a row join them.
    expected = connected_components((pattern.T.double() @ pattern.double()).numpy() > 0, directed=False)[1]
    assert partition(G.column_components()) == partition(torch.from_numpy(expected))
    expected = connected_components((pattern.double() @ pattern.T.double()).numpy() > 0, directed=False)[1]
    assert partition(G.row_components()) == partition(torch.from_numpy(expected))
    assert torch.equal(G.T.row_components(), G.column_components())
    assert torch.equal(G.T.column_components(), G.row_components())


@pytest.mark.parametrize("name", sorted(CASES))
def test_of_a_network(name):
    P = lg.NeuralCoupling(*CASES[name].make())
    assert entries_stay_within(P, P.to_graph())


def test_channels_are_apart():
    model = nn.Sequential(nn.Conv2d(1, 3, 2), nn.Tanh(), nn.Conv2d(3, 2, 2), nn.Flatten(), nn.Linear(8, 2)).double()
    data = torch.randn(2, 1, 4, 4).double(), torch.tensor([0, 1])
    P = lg.NeuralCoupling(model, nn.functional.cross_entropy, data)
    rows, columns = (P.split(numbers) for numbers in (P.row_components(), P.column_components()))
    assert len(partition(rows["0.weight"].flatten())) == 3
    for channel in range(3):
        (number,) = rows["0.weight"][channel].unique()
        assert bool((columns["2.weight"][:, channel] == number).all())


def test_where_nothing_is_known_there_is_one():
    P = Implicit(random_graph(5, 8))
    assert not P.row_components().any()
    assert not P.column_components().any()
