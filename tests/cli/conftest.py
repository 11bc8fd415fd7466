import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from linegraph.cli import app

NETS = """
import torch
from torch import nn


def small():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 10))


class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(64, 12), nn.LayerNorm(12), nn.Linear(12, 10)

    def forward(self, x):
        return self.last(self.norm(self.first(x.flatten(1)).relu()))


network = small()
number = 3


def zoo():
    return {"one": small, "two": Wide}


def bad():
    raise ValueError("no\\nway")


def few():
    import linegraph as lg
    (x, y), (v, w) = lg.datasets.digits()
    return (x[:200], y[:200]), (v[:60], w[:60])


def one_part():
    return few()[0]


def loader():
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*one_part()), batch_size=50)


def own_loss(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets)
"""


def plain(text):
    """What a box of rich says."""
    return re.sub(r"[│╭╮╰╯─\s]+", " ", text)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Calls the command line in a folder that has a module ``nets``; the calls return stdout, stderr and both plain."""
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def call(*arguments, code=0):
        found = CliRunner().invoke(app, [str(one) for one in arguments])
        assert found.exit_code == code, found.output
        assert "Traceback" not in found.output
        found.told = plain(found.stderr)
        return found

    yield call
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "/").is_relative_to(tmp_path):
            del sys.modules[name]


@pytest.fixture
def web(tmp_path):
    """A file of a graph of five nodes."""
    (tmp_path / "web.txt").write_text("0 1 2\n1 2 1\n2 0 1\n2 3 1\n3 4 2\n4 2 1\n")
    return tmp_path / "web.txt"
