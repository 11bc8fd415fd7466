"""A ranking with intervals
========================

The final accuracies that are predicted from the first epochs, best candidate first. The filled markers are those of the
method that orders the table.
"""

import torch

import linegraph as lg
from linegraph.selection.candidates import digits_candidates

torch.set_num_threads(1)
names = "mlp-64-64", "cnn-8", "cnn-batchnorm-16", "mlp-4-4", "mlp-256-128"
candidates = {name: digits_candidates()[name] for name in names}
methods = ["combined", "last_seen", "capacitance"]

lg.plot.ranking(lg.rank(candidates, *lg.datasets.digits(), epochs=3, methods=methods))
