"""Centralities within layers
==========================

How a number for each synapse is distributed within each layer: here the PageRank. Strengths, other centralities, or
values of your own can be drawn.
"""

import torch
import torch.nn.functional as F

import linegraph as lg
from linegraph.selection.candidates import digits_candidates

torch.manual_seed(0)
(images, digits), _ = lg.datasets.digits()
model = digits_candidates()["resnet-8"]()
P = lg.NeuralCoupling(model, F.cross_entropy, (images[:128], digits[:128]), kind="magnitude")

lg.plot.layer_values(P, lg.pagerank(P), label="PageRank")
