"""States on the branches of the theory
====================================

The states in which copies of a web come to rest, after they have lost some of their links, on the stable and unstable
branches of the one-dimensional theory.
"""

import networkx as nx

import linegraph as lg

web = nx.barabasi_albert_graph(60, 4, seed=1)
nx.set_edge_attributes(web, 1.2, "weight")
model = lg.dynamics.Mutualistic()
lost = [step / 20 for step in range(20)]
curve = lg.dynamics.resilience_curve(web, model, "links", lost, repeats=6, progress=False)

lg.plot.state_against_capacity(curve, model)
