"""Layers side by side
===================

One number for each layer: here its share of the sum of all couplings. Any column of :func:`linegraph.diagnose` can be
drawn.
"""

import torch
import torch.nn.functional as F

import linegraph as lg
from linegraph.selection.candidates import digits_candidates

torch.manual_seed(0)
(images, digits), _ = lg.datasets.digits()
model = digits_candidates()["resnet-8"]()
P = lg.NeuralCoupling(model, F.cross_entropy, (images[:128], digits[:128]), kind="magnitude")

lg.plot.layer_bars(lg.diagnose(P), column="share")
