"""Distribution of strengths
=========================

The share of synapses with at least a given in-strength, on logarithmic axes. A power law is fitted to the tail; whether
another distribution fits better is in ``fit.comparison``.
"""

import torch
import torch.nn.functional as F
from torch import nn

import linegraph as lg

torch.manual_seed(0)
(images, digits), _ = lg.datasets.digits()
layers = nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)
P = lg.NeuralCoupling(nn.Sequential(*layers), F.cross_entropy, (images[:256], digits[:256]), kind="magnitude")

strengths = lg.strength_distribution(P, direction="in")
lg.plot.strength_ccdf(strengths, fit=strengths.power_law())
