"""Topology of several graphs
==========================

Measures of :func:`linegraph.topology`, as z-scores against random graphs with the same degrees. White is what the
degrees explain.
"""

import networkx as nx

import linegraph as lg

graphs = {
    "karate club": nx.karate_club_graph(),
    "Les Misérables": nx.les_miserables_graph(),
    "small world": nx.watts_strogatz_graph(60, 6, 0.1, seed=0),
    "preferential": nx.barabasi_albert_graph(60, 3, seed=0),
    "random": nx.gnp_random_graph(60, 0.1, seed=0),
}

lg.plot.topology({name: lg.topology(graph, null="rewired", samples=20) for name, graph in graphs.items()})
