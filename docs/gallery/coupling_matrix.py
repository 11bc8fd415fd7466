"""Couplings between neurons
=========================

Sums of couplings between the neurons of a network, from :func:`linegraph.coarse_graph`: the column sends, the row
receives.
"""

import torch
import torch.nn.functional as F
from torch import nn

import linegraph as lg

torch.manual_seed(0)
(images, digits), _ = lg.datasets.digits()
layers = nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 10)
P = lg.NeuralCoupling(nn.Sequential(*layers), F.cross_entropy, (images[:128], digits[:128]), kind="magnitude")

lg.plot.coupling_matrix(lg.coarse_graph(P, "neuron"))
