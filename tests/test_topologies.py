import random

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array
from torch_geometric.data import Data

import linegraph as lg
from linegraph.errors import ArgumentTypeError, DataError, NotAGraphError, TooLargeError
from linegraph.metrics.null_models import NULL_MODELS, edges_of
from linegraph.metrics.topological_measures import measures_of_weights, measures_of_wiring
from linegraph.topologies import _seed
from tests.cases import CASES
from tests.metrics.graphs import random_graph

KARATE = nx.karate_club_graph()


def same(a, b):
    pd.testing.assert_frame_equal(a, b, rtol=1e-6, atol=1e-9)


def test_columns_are_statistics_over_random_graphs():
    table = lg.topology(KARATE, samples=3, seed=5)
    A = csr_array(nx.to_scipy_sparse_array(KARATE, dtype=float))
    nodes = np.arange(34)
    assert table.attrs == {"samples": 3, "seed": 5, "sources": 34}
    for name, null_model in NULL_MODELS.items():
        drawn = [null_model(edges_of(A), _seed(5, k)).matrix() for k in range(3)]
        found = pd.DataFrame([measures_of_wiring(B, nodes) | measures_of_weights(B, nodes, 5) for B in drawn])
        for measure in ("clustering", "modularity", "weighted_path_length", "beta_eff"):
            value, mean, std, z = table.loc[measure, ["value", *(f"{name}_{each}" for each in ("mean", "std", "z"))]]
            assert mean == pytest.approx(found[measure].mean())
            assert std == pytest.approx(found[measure].std(), abs=1e-9)
            assert np.isnan(z) if std == 0 else z == pytest.approx((value - mean) / std)


def test_what_a_null_model_keeps_has_no_z_score():
    table = lg.topology(KARATE, samples=3)
    kept = ["nodes", "edges", "density", "mean_degree", "degree_heterogeneity", "mean_strength"]
    assert (table.loc[kept, ["rewired_std", "shuffled_std"]] == 0).all(axis=None)
    assert table.loc[kept, ["rewired_z", "shuffled_z"]].isna().all(axis=None)
    assert table.loc[["clustering", "path_length"], "shuffled_z"].isna().all()
    assert table.loc[["clustering", "path_length"], "rewired_z"].notna().all()


def test_communities_and_small_worlds_stand_out_from_rewired_graphs():
    table = lg.topology(nx.connected_watts_strogatz_graph(100, 6, 0.05, seed=1), null="rewired", samples=5)
    assert table.loc["clustering", "rewired_z"] > 5
    assert table.loc["modularity", "rewired_z"] > 5
    assert table.loc["small_worldness", "value"] > 2
    random_graph = lg.topology(nx.gnm_random_graph(100, 300, seed=1), null="rewired", samples=20)
    assert random_graph["rewired_z"].abs().median() < 2


def test_a_network_is_its_neuron_graph():
    model, _, (x, _) = CASES["residual_batch_norm"].make()
    same(lg.topology(model, x, samples=2), lg.topology(lg.neuron_graph(model, x), samples=2))


def test_a_feed_forward_network():
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3))
    table = lg.topology(model, torch.randn(8, 4), samples=3)
    value = table["value"]
    assert value[["nodes", "edges", "mean_degree"]].tolist() == pytest.approx([13, 42, 84 / 13])
    assert value[["clustering", "transitivity", "weighted_clustering", "spectral_radius"]].tolist() == [0] * 4
    assert np.isnan(value["small_worldness"])
    assert table.loc["path_length", "rewired_std"] == 0  # dense layers have one wiring only
    assert table.loc["stable_rank", ["rewired_std", "shuffled_std"]].min() > 0
    # All strengths by hand: of a layer to the next, without a sign.
    first, last = (abs(model[i].weight.detach().double().numpy()) for i in (0, 2))
    received = np.r_[np.zeros(4), first.sum(1), last.sum(1)]
    sent = np.r_[first.sum(0), last.sum(0), np.zeros(3)]
    assert value["beta_eff"] == pytest.approx(received @ sent / received.sum())


def test_parallel_edges_add_up_signs_are_dropped_and_zeros_are_no_edges():
    edges = torch.tensor([[0, 0, 1, 2, 2], [1, 1, 2, 0, 1]])
    found = lg.topology(lg.GraphCoupling(edges, torch.tensor([1.0, -2.0, -1.0, 0.0, 2.0])), null=())["value"]
    expected = lg.topology(csr_array([[0, 0, 0], [3.0, 0, 2.0], [0, 1.0, 0]]), null=())["value"]
    pd.testing.assert_series_equal(found, expected)
    assert found["edges"] == 3


def test_pruned_weights_are_no_edges_of_a_network():
    model, x = torch.nn.Linear(6, 5), torch.randn(2, 6)
    with torch.no_grad():
        model.weight[:, :3] = 0
    assert lg.topology(model, x, null=())["value"]["edges"] == 15


@pytest.mark.parametrize("null", NULL_MODELS)
def test_every_graph_gives_the_same_table(null):
    G = random_graph(20, 80)
    expected = lg.topology(G, null=null, samples=2)
    for graph in (G.to_networkx(), G.to_igraph(), G.to_pyg(), G.to_scipy_sparse()):
        same(lg.topology(graph, null=null, samples=2), expected)


def test_a_coupling_of_a_network_keeps_its_layers():
    model, loss, batch = CASES["mlp"].make()
    P = lg.NeuralCoupling(model, loss, batch, kind="magnitude")
    table = lg.topology(P, samples=2)
    same(table, lg.topology(lg.line_graph(P), samples=2))
    assert table.loc["spectral_radius", ["value", "rewired_mean"]].tolist() == [0, 0]
    without = lg.topology(P.to_graph(), samples=2)  # which does not know of layers, so that cycles arise
    assert without.loc["beta_eff", "value"] == pytest.approx(table.loc["beta_eff", "value"])
    assert without.loc["spectral_radius", "rewired_mean"] > 0


def test_paths_are_searched_from_some_nodes_of_a_large_graph():
    graph = nx.gnm_random_graph(300, 1500, seed=2)
    exact, drawn = (lg.topology(graph, null=(), sources=count) for count in (300, 60))
    assert (exact.attrs["sources"], drawn.attrs["sources"]) == (300, 60)
    for name in ("path_length", "efficiency", "weighted_path_length"):
        assert drawn["value"][name] == pytest.approx(exact["value"][name], rel=0.1)
        assert drawn["value"][name] != pytest.approx(exact["value"][name], rel=1e-9)


def test_seeds_decide_and_nothing_global_changes():
    state = random.getstate(), torch.get_rng_state()
    first, again, other = (lg.topology(KARATE, samples=2, seed=seed) for seed in (1, 1, 2))
    same(first, again)
    assert first.loc["clustering", "rewired_mean"] != pytest.approx(other.loc["clustering", "rewired_mean"], rel=1e-9)
    assert random.getstate() == state[0]
    assert torch.equal(torch.get_rng_state(), state[1])


def test_null_models_by_name():
    assert list(lg.topology(KARATE, null=())) == ["value"]
    assert list(lg.topology(KARATE, null=["shuffled", "shuffled"], samples=2))[1:] == [
        f"shuffled_{each}" for each in ("mean", "std", "z")
    ]
    with pytest.raises(DataError, match="null must be one of 'rewired', 'shuffled', got 'configuration'"):
        lg.topology(KARATE, null=["configuration"])
    with pytest.raises(ArgumentTypeError, match=r"or \(\) for none, got"):
        lg.topology(KARATE, null=None)


def test_graphs_without_edges():
    table = lg.topology(Data(edge_index=torch.zeros(2, 0, dtype=torch.long), num_nodes=3), samples=2)
    assert table["value"][["nodes", "edges", "largest_component"]].tolist() == pytest.approx([3, 0, 1 / 3])
    assert lg.topology(csr_array((0, 0)), samples=2)["value"]["nodes"] == 0


def test_bad_input():
    model = torch.nn.Linear(3, 2)
    with pytest.raises(DataError, match=r"pass a batch of inputs, topology\(model, x\)"):
        lg.topology(model)
    with pytest.raises(ArgumentTypeError, match="data are the inputs of a network"):
        lg.topology(KARATE, torch.randn(2, 3))
    with pytest.raises(NotAGraphError, match="expected a network, a coupling or a graph"):
        lg.topology("karate")
    with pytest.raises(TooLargeError, match="has 156 edges, more than max_edges=100"):
        lg.topology(KARATE, max_edges=100)
    with pytest.raises(TooLargeError, match="has 6 edges, more than max_edges=5"):
        lg.topology(model, torch.randn(2, 3), max_edges=5)
