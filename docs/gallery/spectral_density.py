"""Spectral density
================

The density of the eigenvalues of the symmetric part (P + Pᵀ)/2, estimated from products with random vectors.
"""

import torch
import torch.nn.functional as F
from torch import nn

import linegraph as lg

torch.manual_seed(0)
(images, digits), _ = lg.datasets.digits()
layers = nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10)
P = lg.NeuralCoupling(nn.Sequential(*layers), F.cross_entropy, (images[:128], digits[:128]))

lg.plot.spectral_density(lg.spectral_density(P))
