"""The neurons of a network
========================

Neurons in columns, one for each layer, and the weights between them.
"""

import torch
from torch import nn

import linegraph as lg

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 3))

lg.plot.neuron_graph(lg.neuron_graph(model, torch.randn(8, 6)))
