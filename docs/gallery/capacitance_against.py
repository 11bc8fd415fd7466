"""Capacitance against topology
============================

Does the wiring of a network go with its capacitance? One point for each network of a zoo; the title gives the rank
correlation and its interval. Here the hidden layers of perceptrons are pruned at random, and the measure is one of
:func:`linegraph.topology`.
"""

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

import linegraph as lg

(images, digits), _ = lg.datasets.digits()
sample = images[:128], digits[:128]
rows = []
for seed in range(30):
    torch.manual_seed(seed)
    width = (24, 36, 48)[seed % 3]
    layers = [nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)]
    for layer in layers[::2]:
        prune.random_unstructured(layer, "weight", amount=0.9 * float(torch.rand(())))
        prune.remove(layer, "weight")
    model = nn.Sequential(nn.Flatten(), *layers)
    measures = lg.topology(model, images[:32], null=())["value"]
    P = lg.NeuralCoupling(model, F.cross_entropy, sample, kind="magnitude")
    rows.append(measures.to_dict() | {"beta_eff": lg.capacitance(P).beta_eff, "width": width})

lg.plot.capacitance_against(pd.DataFrame(rows), "mean_degree", group="width")
