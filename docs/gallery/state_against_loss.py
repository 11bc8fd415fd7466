"""States against what is lost
===========================

The state that is left after a share of the nodes has gone, from a low and from a high start: the median of all copies,
and the range from the 10th to the 90th percentile.
"""

import networkx as nx

import linegraph as lg

web = nx.barabasi_albert_graph(60, 4, seed=1)
nx.set_edge_attributes(web, 1.2, "weight")
lost = [step / 20 for step in range(20)]
curve = lg.dynamics.resilience_curve(web, lg.dynamics.Mutualistic(), "nodes", lost, repeats=6, progress=False)

lg.plot.state_against_loss(curve)
