"""Capacitance over training
=========================

The capacitance of networks after every epoch, as a :class:`linegraph.CapacitanceTracker` records it. Any other column
of the history can be drawn.
"""

import pandas as pd
import torch
import torch.nn.functional as F

import linegraph as lg
from linegraph.selection.candidates import digits_candidates

torch.manual_seed(0)
train, valid = lg.datasets.digits()
histories = []
for name in ("mlp-64-64", "cnn-8", "resnet-8"):
    model = digits_candidates()[name]()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    sample = train[0][:256], train[1][:256]
    tracker = lg.CapacitanceTracker(model, F.cross_entropy, sample, valid=valid)
    tracker.record(epoch=0)
    for epoch in range(1, 9):
        for images, digits in zip(train[0].split(64), train[1].split(64), strict=True):
            optimizer.zero_grad()
            F.cross_entropy(model(images), digits).backward()
            optimizer.step()
        tracker.record(epoch=epoch)
    histories.append(tracker.history.assign(name=name))

lg.plot.capacitance_over_training(pd.concat(histories))
