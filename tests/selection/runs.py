"""Small rankings, made anew each time as by a new process."""

from functools import partial

import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import linegraph as lg
from linegraph.selection import training

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(60, 4, generator=GENERATOR)
Y = torch.randint(3, (60,), generator=GENERATOR)
EPOCHS = 2
PARTLY = EPOCHS + 3
"""Files written until the first of two candidates has all epochs, and the second has 0 and 1."""


def net(width=5, middle=nn.Identity):
    return nn.Sequential(nn.Linear(4, width), middle(), nn.ReLU(), nn.Linear(width, 4), nn.ReLU(), nn.Linear(4, 3))


def two(**settings):
    return {"a": partial(net, 5, **settings), "b": partial(net, 6, **settings)}


def loader(**settings):
    return DataLoader(TensorDataset(X, Y), **{"batch_size": 16, **settings})


def sgd(model, **settings):
    return torch.optim.SGD(model.parameters(), **{"lr": 0.05, "momentum": 0.9, **settings})


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def scheduled(make):
    """An optimizer whose hook steps the schedule."""

    def optimizer(model):
        found = sgd(model)
        schedule = make(found)
        found.register_step_post_hook(lambda *_: schedule.step())
        return found

    return optimizer


def rank(make, directory=None, **more):
    settings = {"candidates": two(), "train": (X, Y), "valid": (X[:30], Y[:30]), "epochs": EPOCHS, "seed": 1}
    return lg.rank(**settings | make() | {"directory": directory} | more)


def killed_after(monkeypatch, files, make, directory):
    left, save = files, training._save

    def dying(*arguments):
        nonlocal left
        save(*arguments)
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training, "_save", dying)
        with pytest.raises(KeyboardInterrupt):
            rank(make, directory)


def check_same(found, expected):
    pd.testing.assert_frame_equal(found, expected, rtol=1e-5, atol=1e-8)
    pd.testing.assert_frame_equal(found.attrs["history"], expected.attrs["history"], rtol=1e-5, atol=1e-8)
