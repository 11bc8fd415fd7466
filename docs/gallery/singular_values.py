"""Singular values
===============

The largest singular values of P against their rank. A steep fall says that few patterns of weights carry the coupling.
The eigenvalues of a feed-forward network are all 0, and tell nothing.
"""

import torch
import torch.nn.functional as F
from torch import nn

import linegraph as lg

torch.manual_seed(0)
(images, digits), _ = lg.datasets.digits()
layers = nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10)
model = nn.Sequential(*layers)

ax = None
for kind in ("signed", "magnitude"):
    P = lg.NeuralCoupling(model, F.cross_entropy, (images[:128], digits[:128]), kind=kind)
    ax = lg.plot.singular_values(lg.singular_values(P, 20), ax=ax, label=kind)
