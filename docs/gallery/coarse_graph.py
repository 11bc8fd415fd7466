"""Layers as a graph
=================

The layers of a network and the sums of couplings between them: the coarse graph of a line graph of any size. Arcs lead
from the later to the earlier layer.
"""

import torch
import torch.nn.functional as F

import linegraph as lg
from linegraph.selection.candidates import digits_candidates

torch.manual_seed(0)
(images, digits), _ = lg.datasets.digits()
model = digits_candidates()["resnet-8"]()
P = lg.NeuralCoupling(model, F.cross_entropy, (images[:128], digits[:128]), kind="magnitude")

lg.plot.coarse_graph(lg.coarse_graph(P))
