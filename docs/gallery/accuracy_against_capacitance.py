"""Accuracy against capacitance
============================

The regression behind the method ``capacitance``: accuracy against β_eff over the first epochs of each network,
extrapolated to β_eff = 0.
"""

import torch

import linegraph as lg
from linegraph.selection.candidates import digits_candidates

torch.set_num_threads(1)
candidates = {name: digits_candidates()[name] for name in ("mlp-64-64", "cnn-8", "mlp-4-4")}
table = lg.rank(candidates, *lg.datasets.digits(), epochs=5, methods=["capacitance", "last_seen"])

lg.plot.accuracy_against_capacitance(table.attrs["history"])
