import networkx as nx
import numpy as np

from linegraph.plot.layouts import spread_out


def test_joined_nodes_stand_nearer_than_others_in_the_unit_square():
    graph = nx.grid_2d_graph(5, 5)
    ends = np.array(nx.convert_node_labels_to_integers(graph).edges).T
    place = spread_out(ends, 25)
    assert (place.min(), place.max()) == (0, 1)
    distance = np.linalg.norm(place[:, None] - place[None], axis=2)
    joined = distance[ends[0], ends[1]].mean()
    assert joined < 0.5 * distance[~np.eye(25, dtype=bool)].mean()
    np.testing.assert_allclose(spread_out(ends, 25), place)


def test_nodes_without_edges_and_no_nodes_have_places():
    assert spread_out(np.empty((2, 0), dtype=int), 3).shape == (3, 2)
    assert np.isfinite(spread_out(np.array([[0], [0]]), 1)).all()
    assert spread_out(np.empty((2, 0), dtype=int), 0).shape == (0, 2)
