"""A small line graph
==================

The weights of a network are the nodes, and their couplings the edges. Influence runs from the later weight to the
earlier one, from the right to the left.
"""

import torch
from torch import nn

import linegraph as lg

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2))
P = lg.NeuralCoupling(model, nn.functional.mse_loss, (torch.randn(16, 4), torch.randn(16, 2)))

lg.plot.line_graph(lg.line_graph(P))
