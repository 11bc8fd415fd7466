"""Predicted and true accuracy
===========================

The final accuracy that each method predicts from the first epochs, against the one that full training reaches.
"""

import torch

import linegraph as lg
from linegraph.selection.candidates import digits_candidates

torch.set_num_threads(1)
candidates = {name: digits_candidates()[name] for name in ("mlp-64-64", "cnn-8", "mlp-4-4", "mlp-256-128")}
methods = ["combined", "last_seen", "capacitance"]
table = lg.rank(candidates, *lg.datasets.digits(), epochs=3, methods=methods, train_fully=10)

lg.plot.predicted_against_true(table)
